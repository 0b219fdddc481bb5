#!/usr/bin/env bash
# Measures how many answered requests a crash takes, for each way to sync; the table of docs/guarantees.md.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
scripts/build.sh checking
. scripts/say.sh
. scripts/place.sh

say 'Crashing'
# What is shipped is measured.
export COUPON_MODULE=$module COUPON_RECONCILER=$reconciler
exec "$target/debug/loss" --rounds "${ROUNDS:-20}" --seed "${SEED:-1}"
