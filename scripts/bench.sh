#!/usr/bin/env bash
# Single commands beside bare Redis commands, on a private Redis; server and load generator each on a core of its own
# where the system can pin them.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/place.sh

DATA_DIR=$data/bench
. scripts/stack.sh
claim_place
trap 'stop_stack; rm -rf "$data"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
redis_port=$(port_pick 16379)

pin() {
  shift
}
if command -v taskset >/dev/null && [ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ]; then
  pin() {
    taskset --all-tasks --cpu-list --pid "$1" "$2" >/dev/null || true
  }
fi

say "Starting Redis on port $redis_port"
start_redis
# A rewrite of the AOF would slow down whichever side it meets.
redis_ask config set auto-aof-rewrite-percentage 0 >/dev/null
pin 1 "$redis_pid"
pin 0 $$
"$bench" compare --redis-url "redis://127.0.0.1:$redis_port" --calls "${CALLS:-200000}" --rounds "${ROUNDS:-7}"
