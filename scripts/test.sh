#!/usr/bin/env bash
# Everything that can be checked, cheapest answer first; the end-to-end tests last, so that their summary closes the output.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/install.sh pip valgrind chromium
scripts/build.sh
. scripts/find.sh

for part in fmt clippy; do
  cargo "$part" --version >/dev/null 2>&1 || fail "cargo $part is not installed" 'rustup component add rustfmt clippy'
done

say 'Formatting'
cargo fmt --all --check
if command -v shellcheck >/dev/null; then
  say 'Shell scripts'
  (cd scripts && shellcheck -- *.sh ../.ci/run ../deploy/compose/*.sh ../deploy/container/serve ../tests/stand-ins/postgres-entrypoint)
fi
say 'Lints'
cargo clippy --workspace --all-targets -- -D warnings
say 'Unit tests'
# Without --lib, which would run the module's too: it aborts outside Redis.
cargo test --workspace --exclude coupon-tests --tests --no-fail-fast
scripts/budget.sh
# After the unit tests, which build a reconciler without pause points under the same name.
say 'Building for the tests: pause points at which the reconciler is killed, deliberate faults in both halves'
cargo build -p coupon-reconciler --features pause-points,faults
# Loaded into the tests' servers, so no test links it and none would build it.
cargo build -p coupon-shim
if [ "$(uname -sm)" = 'Linux x86_64' ]; then
  scripts/test_servers.sh short
else
  say 'Skipped: the tests on Redis 8.2, Valkey 8.1 and Valkey 9.1, which are to be had for Linux on x86_64 only'
fi
scripts/test_containers.sh short
scripts/clients.sh
if [ "$(uname)" = Linux ]; then
  scripts/deploy.sh
else
  say 'Skipped: the tests of deploy/, for Linux only'
fi
say 'End-to-end tests'
# Twice as many at a time as a small machine has cores: they wait for servers most of their time.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-4} cargo test -p coupon-tests --tests --no-fail-fast
