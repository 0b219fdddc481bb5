#!/usr/bin/env bash
# A sale with many users, and the proof that it was fair: on the stack that `make run` has started, or on one that is
# made for it and thrown away.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/say.sh
. scripts/place.sh
. scripts/process.sh

# Whether the stack of `make run` answers; then its URLs are in the environment.
join_running_stack() {
  [ -r "$stack_file" ] || return 1
  # shellcheck disable=SC1090 # written by start_stack
  . "$stack_file"
  is_alive "$STACK_PID" || return 1
  export REDIS_URL DATABASE_URL
}

hold_sale() {
  "$bench" drop --users "${USERS:-1000000}" --quantity "${QUANTITY:-100000}" --mode "${MODE:-QUEUE}" \
    --waitlist "${WAITLIST:-0}" --connections "${CONNECTIONS:-64}" --pipeline "${PIPELINE:-1}" --seed "${SEED:-1}"
}

if join_running_stack; then
  say "The sale runs on the stack of 'make run' ($REDIS_URL)"
  hold_sale
  exit
fi

make_data_dir
# A place inside, that PostgreSQL's own user can enter too.
DATA_DIR=$(mktemp -d "$data/drop.XXXXXX")
chmod 755 "$DATA_DIR"
. scripts/stack.sh
redis_port=$(port_pick 16379)
listen=127.0.0.1:$(port_pick 19187)
postgres_port=$(port_pick 15532)
choose_postgres_dir

throw_away() {
  local status=$?
  stop_stack
  rm -rf "$data"
  case $postgres_dir in
    /var/lib/redis-coupon/*) rm -rf "$(dirname "$postgres_dir")" ;;
  esac
  exit "$status"
}
trap throw_away EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
start_stack
hold_sale
