#!/usr/bin/env bash
# What every change has to pass, in some minutes, with Rust, Redis and PostgreSQL alone: formatting, lints, unit tests, and the
# end-to-end tests on the checking build, a minute of torture among them. scripts/test_all.sh goes on from here.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/install.sh
. scripts/find.sh
. scripts/place.sh

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
cargo clippy "${checking[@]}" --all-targets -- -D warnings
# `--all-targets` leaves out what `cargo test` leaves out.
cargo clippy "${checking[@]}" --test clients --test deploy -- -D warnings
scripts/build.sh checking
find_hosts || say 'SKIPPED: the tests of hosts that are cut off from each other, for root on Linux with ip(8) only'
say 'Unit tests, then end-to-end tests'
# Without --lib, which would run the module's too: it aborts outside Redis. The page is looked at in Chromium by `make test-all`.
# Three times as many at a time as a small machine has cores: they wait for servers most of their time.
COUPON_TORTURE_SECONDS=${COUPON_TORTURE_SECONDS:-60} RUST_TEST_THREADS=${RUST_TEST_THREADS:-6} \
  cargo test "${checking[@]}" --tests --no-fail-fast -- --skip chromium::
