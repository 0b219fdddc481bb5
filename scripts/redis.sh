# shellcheck shell=bash
# shellcheck disable=SC2154 # the names come from the files and settings named below
# The private Redis: the shipped redis.conf, the module, and a folder of its own.
# Needs: say.sh process.sh place.sh, redis_port. Sets: redis_pid.

redis_pid=''
redis_dir=$data/redis
redis_log=$redis_dir/redis.log

redis_ask() {
  redis-cli -h 127.0.0.1 -p "$redis_port" "$@"
}

# Ends a Redis that an earlier run left behind in this folder because it was killed.
stop_leftover_redis() {
  local port
  port=$(cat "$redis_dir/port" 2>/dev/null) || return 0
  if [ "$(redis-cli -h 127.0.0.1 -p "$port" config get dir 2>/dev/null | tail -n 1)" = "$redis_dir" ]; then
    say "Stopping the Redis that an earlier run left on port $port"
    redis-cli -h 127.0.0.1 -p "$port" shutdown 2>/dev/null || true
  fi
  rm -f "$redis_dir/port"
}

# Cuts an AOF that a power cut has left in the middle of a transaction back to its last whole one; see redis.conf.
repair_aof() {
  say 'Cutting the AOF back to its last whole transaction'
  redis-check-aof --fix "$(printf '%s\n' "$redis_dir"/appendonlydir/*.incr.aof | sort -V | tail -n 1)" <<<y >>"$redis_log" 2>&1
}

launch_redis() {
  start_apart "$redis_log" redis-server "$PWD/redis.conf" --port "$redis_port" --dir "$redis_dir" --daemonize no \
    --loadmodule "$module"
  redis_pid=$started
}

start_redis() {
  local answer is_repaired=''
  mkdir -p "$redis_dir"
  : >>"$redis_log"
  launch_redis
  printf '%s\n' "$redis_port" >"$redis_dir/port"
  until answer=$(redis_ask ping 2>&1) && [ "$answer" = PONG ]; do
    # A large data set takes its time to load, so there is no deadline as long as the process lives.
    if ! is_alive "$redis_pid"; then
      if [ -z "$is_repaired" ] && tail -n 20 "$redis_log" | grep -q 'Unexpected end of file reading the append only file'; then
        is_repaired=yes
        repair_aof
        launch_redis
        continue
      fi
      show_tail "$redis_log"
      fail 'Redis did not start' "its log is $redis_log"
    fi
    pause 0.1
  done
}

stop_redis() {
  [ -n "$redis_pid" ] || return 0
  end_process "$redis_pid" redis-server 60 && rm -f "$redis_dir/port"
  redis_pid=''
}
