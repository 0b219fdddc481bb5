#!/usr/bin/env bash
# Measures how many answered requests a crash takes, for each way to sync; the table of docs/guarantees.md.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/say.sh

say 'Building the tests'
cargo build -p coupon-tests -p coupon-shim --bins --lib
say 'Crashing'
exec "${CARGO_TARGET_DIR:-target}/debug/loss" --rounds "${ROUNDS:-20}" --seed "${SEED:-1}"
