#!/usr/bin/env bash
# Ours beside what one would use without it, on a private Redis and PostgreSQL; Redis and the load generator each on a core
# of its own where the system can pin them.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/place.sh

out=$target/bench
DATA_DIR=$data/bench
. scripts/stack.sh
claim_place
throw_away_at_end

redis_port=$(port_pick 16379)
postgres_port=$(port_pick 15532)

# For all sides alike: a checkpoint would slow down whichever side it meets.
# shellcheck disable=SC2034 # read by start_postgres
postgres_settings='-c shared_buffers=512MB -c max_wal_size=8GB -c checkpoint_timeout=1h'

say "Starting Redis on port $redis_port"
start_redis
# A rewrite of the AOF would slow down whichever side it meets.
redis_ask config set auto-aof-rewrite-percentage 0 >/dev/null
say "Starting PostgreSQL on port $postgres_port"
make_postgres_dir
start_postgres
export REDIS_URL=redis://127.0.0.1:$redis_port DATABASE_URL=$postgres_url
export COUPON_RECONCILER=$reconciler POSTGRES_BIN=$postgres_bin
"$reconciler" migrate >>"$reconciler_log" 2>&1 || {
  show_tail "$reconciler_log"
  fail 'the tables could not be made' "the log is $reconciler_log"
}

options=(compare --seed "${SEED:-1}" --out "$out")
if [ -n "${ONLY:-}" ]; then
  options+=(--only "$ONLY")
fi
if [ -n "${QUICK:-}" ]; then
  options+=(--quick)
fi
# PostgreSQL and the reconciler stay free: what they are compared with needs the same two.
if command -v taskset >/dev/null && [ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ]; then
  taskset --all-tasks --cpu-list --pid 1 "$redis_pid" >/dev/null || true
  options+=(--core 0)
fi
"$bench" "${options[@]}"
