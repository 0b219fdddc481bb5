#!/usr/bin/env bash
# The tests that need a Docker engine: the images as a user gets them, compose.yaml, and the end-to-end tests once more, with
# Redis, PostgreSQL and the reconciler in containers; with `short` a part of the last, and none of all where there is no engine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
. scripts/find.sh
. scripts/place.sh

scope=${1:-all}
case $scope in
  all | short) ;;
  *) fail "'$scope' is no scope of the tests" 'none, or short' ;;
esac

scripts/build.sh
# Here, as a private engine's network leads nowhere.
scripts/build.sh checking
cargo test "${checking_in_containers[@]}" --test containers --no-run
scripts/clients.sh

status=0
{ scripts/images.sh base && scripts/servers.sh && scripts/engine.sh scripts/in_containers.sh "$scope"; } || status=$?
if [ "$status" -eq 69 ] && [ "$scope" = short ]; then
  say 'SKIPPED: every test with containers, for the reason above'
  exit 0
fi
exit "$status"
