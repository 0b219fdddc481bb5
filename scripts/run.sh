#!/usr/bin/env bash
# Everything from nothing: install, build, start, and a coupon to try. Ctrl-C stops all; the data stays for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/stack.sh

redis_port=${REDIS_PORT:-6379}
listen=${LISTEN:-127.0.0.1:9187}

claim_place
trap stop_stack EXIT
# Being told to stop is not a failure.
trap 'printf "\n"; say Stopping; exit 0' INT TERM HUP

port_require "$redis_port" Redis 'make run REDIS_PORT=6380'
port_require "${listen##*:}" "the reconciler's health and metrics" 'make run LISTEN=127.0.0.1:9188'
if [ -n "${PG_PORT:-}" ]; then
  postgres_port=$PG_PORT
  port_require "$postgres_port" PostgreSQL 'make run PG_PORT=15433'
else
  # The port of the last run, if it is free, so that URLs stay as they were.
  postgres_port=$(port_pick "$(cat "$data/postgres.port" 2>/dev/null || echo 15432)")
  printf '%s\n' "$postgres_port" >"$data/postgres.port"
fi

start_stack

# An application would do no more than this to offer a coupon.
sql_in coupon "insert into coupon (id, name, quantity, status) values ('welcome', 'Welcome', 100, 'AVAILABLE') on conflict do nothing"

# Open, unless somebody has closed it in an earlier run; then there is nothing to wait for.
welcome='coupon:{welcome}'
tries=300
until redis_ask coupon.info "$welcome" 2>/dev/null | grep -A 1 '^fenced$' | grep -q '^0$'; do
  require_alive
  if [ "$tries" -eq 0 ]; then
    printf 'the coupon welcome is not on offer after 30 s; the log below may say why\n' >&2
    break
  fi
  tries=$((tries - 1))
  pause 0.1
done

port_option=''
if [ "$redis_port" != 6379 ]; then
  port_option=" -p $redis_port"
fi
places=$data
if [ "$postgres_dir" != "$data/postgres" ]; then
  places="$data and $postgres_dir"
fi
say 'Running. In another terminal, type:'
cat <<END

  redis-cli$port_option COUPON.REQUEST '$welcome' 1001
  redis-cli$port_option COUPON.STATUS  '$welcome' 1001
  $postgres_bin/psql $postgres_url -c "select * from user_coupon where coupon_id = 'welcome'"

  make drop USERS=100000 QUANTITY=10000     a sale on this stack, verified

  Redis        $redis_url
  PostgreSQL   $postgres_url
  Reconciler   http://$listen/  (live page)  http://$listen/metrics  http://$listen/readyz
  Data         $places

END
say "Ctrl-C stops all and keeps the data. The reconciler's log ($reconciler_log):"
# Read on from the same descriptor: what is new, and no further process to end.
exec 3<"$reconciler_log"
trap 'stop_stack; cat <&3' EXIT
while :; do
  cat <&3
  require_alive
  pause 0.5
done
