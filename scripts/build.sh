#!/usr/bin/env bash
# Builds what runs. Always the same set: cargo compiles shared crates anew for each other choice of packages.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/install.sh
. scripts/find.sh

say 'Building (the first time takes some minutes)'
cargo build --release -p coupon-module -p coupon-reconciler -p coupon-bench
