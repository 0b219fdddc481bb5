# shellcheck shell=bash
# The whole private stack: Redis with the module, PostgreSQL, reconciler; started, watched and stopped in order.
# Needs the caller to have set redis_port, postgres_port and listen, and to stop the stack when it ends.

. scripts/say.sh
. scripts/find.sh
. scripts/port.sh
. scripts/place.sh
. scripts/process.sh
. scripts/redis.sh
. scripts/postgres.sh
. scripts/reconciler.sh

# Takes the data folder for this script: refuses while another one uses it, and ends what one that was killed has left.
# From here on the caller has to call stop_stack when it ends.
claim_place() {
  local id
  make_data_dir
  choose_postgres_dir
  id=$(sed -n 's/^STACK_PID=//p' "$stack_file" 2>/dev/null) || true
  if [ -n "$id" ] && [[ $(command_of "$id") == *scripts/* ]]; then
    fail "a stack is running with the data in $data already (pid $id)" \
      'stop it with Ctrl-C in its terminal, or give this one a place of its own with DATA_DIR='
  fi
  stop_leftover_reconciler
  stop_leftover_redis
  stop_leftover_postgres
  rm -f "$stack_file"
  (umask 077 && printf 'STACK_PID=%s\n' "$$" >"$stack_file")
}

start_stack() {
  redis_url=redis://127.0.0.1:$redis_port
  : >"$reconciler_log"
  say "Starting Redis on port $redis_port"
  start_redis
  say "Starting PostgreSQL on port $postgres_port"
  make_postgres_dir
  start_postgres
  say 'Starting the reconciler'
  start_reconciler
  printf 'REDIS_URL=%q\nDATABASE_URL=%q\n' "$redis_url" "$postgres_url" >>"$stack_file"
}

# Prints the name of a part that has ended, and its log; nothing while all are alive.
find_dead_part() {
  if ! is_alive "$reconciler_pid"; then
    printf 'the reconciler\n%s\n' "$reconciler_log"
  elif ! is_alive "$redis_pid"; then
    printf 'Redis\n%s\n' "$redis_log"
  elif ! postgres_is_alive; then
    printf 'PostgreSQL\n%s\n' "$postgres_dir/postgres.log"
  fi
}

# Ends the script if a part has ended by itself.
require_alive() {
  local dead
  dead=$(find_dead_part)
  if [ -n "$dead" ]; then
    show_tail "${dead#*$'\n'}"
    fail "${dead%%$'\n'*} has ended by itself; stopping the rest"
  fi
}

# The reconciler first, so that it can finish its batch; its sources after it. What never started is passed over.
stop_stack() {
  # A second Ctrl-C must not leave servers behind.
  trap '' INT TERM HUP
  stop_reconciler || true
  stop_redis || true
  stop_postgres
  rm -f "$stack_file"
}

# A stack of its own: however the script ends, its servers and its data go with it.
throw_away_at_end() {
  trap throw_away EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

throw_away() {
  local status=$?
  stop_stack
  rm -rf "$data"
  if [ "$postgres_dir" != "$data/postgres" ]; then
    rm -rf "$(dirname "$postgres_dir")"
  fi
  exit "$status"
}
