#!/usr/bin/env bash
# Breaks real servers in a loop and checks the promises after each fault; the short form is in `make test`,
# one with hosts of their own in `make test-all`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh checking
# They are network namespaces, which are Linux's and root's; elsewhere those scenarios say SKIPPED.
[ "$(uname)" != Linux ] || scripts/install.sh ip
. scripts/say.sh
. scripts/place.sh

args=(--minutes "${MINUTES:-30}")
[ -z "${SEED:-}" ] || args+=(--seed "$SEED")
[ -z "${SCENARIO:-}" ] || args+=(--scenario "$SCENARIO")
say 'Torture'
exec "$target/debug/torture" "${args[@]}"
