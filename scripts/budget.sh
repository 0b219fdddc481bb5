#!/usr/bin/env bash
# Counts the instructions of each command under valgrind and compares them with bench/budget.json; RECORD=1 writes it anew,
# KEEP=directory keeps callgrind's files.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
. scripts/place.sh

if [ "$(uname)" != Linux ]; then
  say 'Instructions are not counted: valgrind needs Linux'
  exit
fi
scripts/install.sh valgrind
scripts/build.sh
say 'Counting instructions (about a minute)'
options=(budget --module "$module")
if [ -n "${RECORD:-}" ]; then
  options+=(--record)
fi
if [ -n "${KEEP:-}" ]; then
  options+=(--keep "$KEEP")
fi
"$bench" "${options[@]}"
