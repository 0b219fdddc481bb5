#!/usr/bin/env bash
# The release: builds, and packs what was built into dist/ (DIST_DIR).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
exec scripts/pack.sh
