#!/usr/bin/env bash
# Single commands beside bare Redis commands, on a private Redis; server and load generator each on a core of its own
# where the system can pin them.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/say.sh
. scripts/port.sh
. scripts/place.sh
. scripts/process.sh

make_data_dir
DATA_DIR=$(mktemp -d "$data/bench.XXXXXX")
. scripts/place.sh
. scripts/redis.sh
redis_port=$(port_pick 16379)
trap 'stop_redis; rm -rf "$DATA_DIR"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

pin() {
  shift
}
if command -v taskset >/dev/null && [ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ]; then
  pin() {
    taskset --all-tasks --cpu-list --pid "$1" "$2" >/dev/null
  }
fi

say "Starting Redis on port $redis_port"
start_redis
pin 1 "$redis_pid"
pin 0 $$
"$bench" compare --redis-url "redis://127.0.0.1:$redis_port" --calls "${CALLS:-200000}" --rounds "${ROUNDS:-7}"
