#!/usr/bin/env bash
# Breaks real servers in a loop and checks the promises after each fault; the short form is in `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/say.sh

say 'Building the tests'
cargo build -p coupon-tests -p coupon-shim --bins --lib
args=(--minutes "${MINUTES:-30}")
[ -z "${SEED:-}" ] || args+=(--seed "$SEED")
[ -z "${SCENARIO:-}" ] || args+=(--scenario "$SCENARIO")
say 'Torture'
exec "${CARGO_TARGET_DIR:-target}/debug/torture" "${args[@]}"
