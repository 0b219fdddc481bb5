#!/usr/bin/env bash
# The end-to-end tests on the servers of other versions, on the checking build: all that touch Redis, torture and the clients of
# other languages among them, or with `short` those of the module.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/build.sh checking
. scripts/find.sh
. scripts/place.sh
scripts/servers.sh

if [ "${1:-}" = short ]; then
  # Without the longest, of which the server's version makes no difference.
  tests=(--test module -- --skip hostile:: --skip crowd:: --skip disk_full::
    --skip maxmemory:: --skip fairness::)
else
  scripts/clients.sh
  # These builds of the servers have no TLS.
  tests=(--test module --test model --test reconciler --test audit --test clients --test torture
    -- --skip tls:: --skip by_tls)
fi
status=0
for server in target/servers/*/redis-server; do
  directory=$(dirname "$server")
  say "Tests on $(basename "$directory")"
  # Each server is asked, so that one run shows all that is to be done.
  PATH=$PWD/$directory:$PATH cargo test "${checking[@]}" --no-fail-fast "${tests[@]}" || status=$?
done
exit "$status"
