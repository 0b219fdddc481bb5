#!/usr/bin/env bash
# Plays the deliberate faults of tests/faults, each beside the test that has to notice it: all, or ONLY=name; with `few`, some of
# them, others with each commit. Every patch has to apply in any case.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh

FEW=4

args=()
case ${1:-} in
  '') [ -z "${ONLY:-}" ] || args+=(--only "$ONLY") ;;
  few)
    turn=$(git rev-list --count HEAD)
    args+=(--few "$FEW" --turn "$turn")
    ;;
  *) fail "'$1' is no choice of faults" 'none, or few' ;;
esac
scripts/build.sh checking
. scripts/find.sh
. scripts/place.sh
say "Deliberate faults${turn:+: $FEW of them, at turn $turn}"
exec "$target/debug/faults" "${args[@]}"
