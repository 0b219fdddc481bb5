# shellcheck shell=bash
# Whether a TCP port on loopback is free, and who holds it if not.

# Bash connects by itself, so that a machine without ss, lsof or nc can tell too.
port_is_free() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# As in " by redis-server (pid 123)"; empty where the system does not tell.
port_holder() {
  local line name pid
  if command -v ss >/dev/null; then
    line=$(ss -Hltnp "sport = :$1" 2>/dev/null | grep -o 'users:(("[^"]*",pid=[0-9]*' | head -n 1) || true
    name=$(printf '%s' "$line" | sed -n 's/^users:(("\([^"]*\)".*/\1/p')
    pid=${line##*pid=}
  elif command -v lsof >/dev/null; then
    line=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN -Fpc 2>/dev/null) || true
    pid=$(printf '%s\n' "$line" | sed -n 's/^p//p' | head -n 1)
    name=$(printf '%s\n' "$line" | sed -n 's/^c//p' | head -n 1)
  fi
  if [ -n "${name:-}" ] && [ -n "${pid:-}" ]; then
    printf ' by %s (pid %s)' "$name" "$pid"
  fi
}

# Ends the script unless the port is free: port_require PORT WHOSE "make run VARIABLE=other".
port_require() {
  case $1 in
    '' | *[!0-9]*) fail "'$1' is no port for $2" "give a number from 1 to 65535: $3" ;;
  esac
  if [ "$1" -lt 1 ] || [ "$1" -gt 65535 ]; then
    fail "'$1' is no port for $2" "give a number from 1 to 65535: $3"
  fi
  port_is_free "$1" || fail "port $1, meant for $2, is taken$(port_holder "$1")" "stop that program, or choose another port: $3"
}

# The first free port from here on.
port_pick() {
  local port=$1
  until port_is_free "$port"; do
    port=$((port + 1))
  done
  printf '%s' "$port"
}
