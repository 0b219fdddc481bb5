# shellcheck shell=bash
# shellcheck disable=SC2154 # the names come from the files and settings named below
# The reconciler of the private stack.
# Needs: say.sh process.sh place.sh, redis_url, postgres_url, listen. Sets: reconciler_pid.

reconciler_pid=''
reconciler_log=$data/reconciler.log

# The URLs go by environment: arguments can be read by every user of the machine.
start_reconciler() {
  export REDIS_URL=$redis_url DATABASE_URL=$postgres_url LISTEN=$listen
  "$reconciler" migrate >>"$reconciler_log" 2>&1 || {
    show_tail "$reconciler_log"
    fail 'the tables could not be made' "the log is $reconciler_log"
  }
  start_apart "$reconciler_log" "$reconciler" run --log-format text
  reconciler_pid=$started
  printf '%s\n' "$reconciler_pid" >"$data/reconciler.pid"
}

stop_leftover_reconciler() {
  local id
  id=$(cat "$data/reconciler.pid" 2>/dev/null) || return 0
  # The number may belong to another program by now.
  if [[ $(command_of "$id") == *'/coupon-reconciler run'* ]]; then
    say "Stopping the reconciler that an earlier run left behind (pid $id)"
    end_process "$id" coupon-reconciler 15
  fi
  rm -f "$data/reconciler.pid"
}

# It finishes its batch first; it is harmless to end it at any moment, so its patience is short.
stop_reconciler() {
  [ -n "$reconciler_pid" ] || return 0
  end_process "$reconciler_pid" coupon-reconciler 15 && rm -f "$data/reconciler.pid"
  reconciler_pid=''
}
