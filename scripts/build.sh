#!/usr/bin/env bash
# Builds what runs, or with `checking` all that is tested, with the tests.
#   build.sh            target/release: module, reconciler and load generator, as they are shipped and measured
#   build.sh checking   target/debug: module, reconciler and tests, with debug assertions, so that the module compares what it keeps in
#                       mind with the keys, and with the points at which a test can hold the reconciler
# Each always builds the same set: cargo compiles shared crates anew for each other choice of packages.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
case ${1:-release} in
  checking) scripts/install.sh pgbouncer ;;
  *) scripts/install.sh ;;
esac
. scripts/find.sh
. scripts/place.sh

case ${1:-release} in
  release)
    say 'Building (the first time takes some minutes)'
    cargo build --release -p coupon-module -p coupon-reconciler -p coupon-bench
    ;;
  checking)
    say 'Building for the tests (the first time takes some minutes)'
    # Without the load generator: only its unit tests are run on this build.
    cargo build "${checking[@]}" --lib --bin coupon-reconciler --tests
    ;;
  *) fail "'$1' is no build" 'none, or checking' ;;
esac
