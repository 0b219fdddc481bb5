#!/usr/bin/env bash
# Builds what runs: the module and the reconciler, and further packages named as arguments.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/install.sh
. scripts/find.sh

packages=(-p coupon-module -p coupon-reconciler)
for package in "$@"; do
  packages+=(-p "$package")
done
say 'Building (the first time takes some minutes)'
cargo build --release "${packages[@]}"
