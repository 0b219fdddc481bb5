#!/usr/bin/env bash
# All that is tested beside scripts/test.sh, which goes before: what is shipped and measured, the servers of other versions,
# containers, clients of other languages, deploy/, the page in a browser, deliberate faults, and a longer torture. The end-to-end
# tests last, so that their summary closes the output.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/install.sh pip node java valgrind chromium
# Torture on hosts of their own, in network namespaces.
[ "$(uname)" != Linux ] || scripts/install.sh ip
scripts/build.sh
scripts/build.sh checking
. scripts/find.sh
. scripts/place.sh

export RUST_TEST_THREADS=${RUST_TEST_THREADS:-6}

scripts/budget.sh
say 'The module as it is shipped'
COUPON_MODULE=$module COUPON_RECONCILER=$reconciler \
  cargo test "${checking[@]}" --test module -- --skip hostile:: --skip crowd:: --skip disk_full:: \
  --skip maxmemory:: --skip fairness::
scripts/faults.sh few
if [ "$(uname -sm)" = 'Linux x86_64' ]; then
  scripts/test_servers.sh short
else
  say 'Skipped: the tests on Redis 8.2, Valkey 8.1 and Valkey 9.1, which are to be had for Linux on x86_64 only'
fi
say 'Lints of what is built for containers alone'
cargo clippy "${checking_in_containers[@]}" --lib --test containers -- -D warnings
scripts/test_containers.sh short
scripts/clients.sh
tests=(--test clients)
if [ "$(uname)" = Linux ]; then
  scripts/deploy.sh
  tests+=(--test deploy)
else
  say 'Skipped: the tests of deploy/, for Linux only'
fi
say 'The page in a browser'
cargo test "${checking[@]}" --test reconciler -- chromium::
say 'The model, for longer'
COUPON_SEQUENCES=${COUPON_SEQUENCES:-600} cargo test "${checking[@]}" --test model
find_hosts || say 'SKIPPED: torture of hosts that are cut off from each other, for root on Linux only'
say 'The pages of the documentation, deploy/, and torture'
COUPON_TORTURE_SECONDS=${COUPON_TORTURE_SECONDS:-240} \
  cargo test "${checking[@]}" --no-fail-fast "${tests[@]}" --test torture
