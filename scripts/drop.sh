#!/usr/bin/env bash
# A sale with many users, and the proof that it was fair: on the stack that `make run` has started, or on one that is
# made for it and thrown away.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
. scripts/say.sh
. scripts/place.sh
. scripts/process.sh

# Whether the stack of `make run` is there; then its URLs are in the environment.
join_running_stack() {
  local STACK_PID=''
  unset REDIS_URL DATABASE_URL
  [ -r "$stack_file" ] || return 1
  # shellcheck disable=SC1090 # written by claim_place and start_stack
  . "$stack_file"
  is_alive "$STACK_PID" || return 1
  [ -n "${DATABASE_URL:-}" ] || fail "the stack of 'make run' (pid $STACK_PID) is still starting" 'try again when it says Running'
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

DATA_DIR=$data/drop
. scripts/stack.sh
claim_place
throw_away_at_end

redis_port=$(port_pick 16379)
listen=127.0.0.1:$(port_pick 19187)
postgres_port=$(port_pick 15532)
start_stack
hold_sale
