#!/usr/bin/env bash
# The end-to-end tests on the servers of other versions: all that touch Redis, torture and the clients of other languages
# among them, or with `short` those of the module but the longest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/build.sh
. scripts/find.sh
scripts/servers.sh

if [ "${1:-}" = short ]; then
  tests=(--test module -- --skip faults:: --skip hostile:: --skip wait::ten_thousand --skip disk_full::
    --skip maxmemory:: --skip fairness::)
else
  cargo build -p coupon-reconciler --features pause-points,faults
  cargo build -p coupon-shim
  scripts/clients.sh
  # These builds of the servers have no TLS.
  tests=(--test module --test model --test reconciler --test audit --test clients --test torture -- --skip tls:: --skip by_tls)
fi
status=0
for server in target/servers/*/redis-server; do
  directory=$(dirname "$server")
  say "Tests on $(basename "$directory")"
  # Each server is asked, so that one run shows all that is to be done.
  PATH=$PWD/$directory:$PATH cargo test -p coupon-tests --no-fail-fast "${tests[@]}" || status=$?
done
exit "$status"
