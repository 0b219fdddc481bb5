# shellcheck shell=bash
# Child processes: start them apart from the terminal, wait for them, end them.

# Starts a program whose output goes to a log; its id is in $started. A process group of its own keeps Ctrl-C, which
# the terminal sends to all of a group at once, from ending the servers in the wrong order.
start_apart() {
  local log=$1
  shift
  set -m
  "$@" >>"$log" 2>&1 </dev/null &
  # shellcheck disable=SC2034 # the caller reads it
  started=$!
  set +m
}

is_alive() {
  kill -0 "$1" 2>/dev/null
}

# The command line of a process, empty if there is none. A small system has no ps, macOS has no /proc.
command_of() {
  if [ -r "/proc/$1/cmdline" ]; then
    tr '\0' ' ' <"/proc/$1/cmdline"
  else
    ps -p "$1" -o args= 2>/dev/null || true
  fi
}

# Sleeps so that a signal to this script is handled at once.
pause() {
  sleep "$1" &
  wait $! || true
}

# Asks a process to end and waits for it: end_process ID NAME SECONDS.
end_process() {
  local id=$1 name=$2 tries=$(($3 * 10))
  kill -TERM "$id" 2>/dev/null || return 0
  while is_alive "$id"; do
    if [ "$tries" -eq 0 ]; then
      printf '%s (pid %s) has not ended after %s s; it is left running\n' "$name" "$id" "$3" >&2
      return 1
    fi
    tries=$((tries - 1))
    sleep 0.1
  done
}
