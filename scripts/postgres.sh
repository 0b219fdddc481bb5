# shellcheck shell=bash
# shellcheck disable=SC2154 # the names come from the files and settings named below
# The private PostgreSQL: a cluster of its own with a random password, reached through loopback only.
# Needs: say.sh find.sh process.sh place.sh, postgres_port. Sets: postgres_url.

postgres_url=''
postgres_dir=''
postgres_bin=''
postgres_owner=''

# PostgreSQL refuses to run as root; then another user runs it, from a folder that this user can enter.
as_postgres() {
  if [ "$postgres_owner" = "$(id -un)" ]; then
    (cd / && "$@")
  else
    (cd / && runuser -u "$postgres_owner" -- "$@")
  fi
}

owner_of() {
  # GNU first, then BSD.
  stat -c %U "$1" 2>/dev/null || stat -f %Su "$1"
}

# Chooses the folder and the user. The same checkout always gets the same folder, so that the next run finds its data.
choose_postgres_dir() {
  postgres_bin=$(find_postgres)
  postgres_dir=$data/postgres
  postgres_owner=$(id -un)
  if [ "$(id -u)" -ne 0 ]; then
    return
  fi
  postgres_owner=postgres
  id "$postgres_owner" >/dev/null 2>&1 || fail "PostgreSQL refuses to run as root, and there is no user 'postgres' to run it" \
    'create one (useradd --system postgres), or run this as another user than root'
  if [ -d "$postgres_dir" ] && [ "$(owner_of "$postgres_dir")" != root ]; then
    postgres_owner=$(owner_of "$postgres_dir")
  fi
  # Whether that user can come as far as there.
  if ! as_postgres test -x "$data"; then
    postgres_dir=/var/lib/redis-coupon/$(basename "$(dirname "$data")")-$(printf '%s' "$data" | cksum | cut -d ' ' -f 1)/postgres
  fi
}

make_postgres_dir() {
  if [ "$(id -u)" -ne 0 ]; then
    mkdir -p "$postgres_dir"
    chmod 700 "$postgres_dir"
    return
  fi
  # The folder above must let its user through, whatever the umask here.
  if [ "$postgres_dir" != "$data/postgres" ]; then
    (umask 022 && mkdir -p "$(dirname "$postgres_dir")")
    say "PostgreSQL keeps its data in $postgres_dir, as its user $postgres_owner cannot enter $data"
  fi
  if [ ! -d "$postgres_dir" ]; then
    install -d -o "$postgres_owner" -m 700 "$postgres_dir"
  fi
}

# Makes the cluster under another name first: one that was interrupted half-way is not mistaken for a whole one.
create_cluster() {
  local password
  say 'Creating the PostgreSQL cluster'
  password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
  as_postgres sh -c "umask 077; rm -rf '$postgres_dir/new'; printf '%s\n' '$password' >'$postgres_dir/password'"
  as_postgres "$postgres_bin/initdb" --pgdata="$postgres_dir/new" --username=coupon --auth=scram-sha-256 \
    --pwfile="$postgres_dir/password" --encoding=UTF8 --locale=C >"$data/initdb.log" 2>&1 || {
    show_tail "$data/initdb.log"
    fail 'PostgreSQL could not create its cluster' "its folder is $postgres_dir"
  }
  as_postgres mv "$postgres_dir/new" "$postgres_dir/data"
}

stop_leftover_postgres() {
  if postgres_is_alive; then
    say 'Stopping the PostgreSQL that an earlier run left behind'
    stop_postgres
  fi
}

start_postgres() {
  local cluster=$postgres_dir/data
  if [ ! -d "$cluster" ]; then
    create_cluster
  fi
  # pg_ctl starts it in a session of its own, which keeps the terminal's Ctrl-C away from it.
  as_postgres "$postgres_bin/pg_ctl" start --silent --wait --timeout=120 --pgdata="$cluster" \
    --log="$postgres_dir/postgres.log" \
    --options="-p $postgres_port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' ${postgres_settings:-}" >/dev/null || {
    show_tail "$postgres_dir/postgres.log"
    fail 'PostgreSQL did not start' "its log is $postgres_dir/postgres.log"
  }
  postgres_url=postgres://coupon:$(cat "$postgres_dir/password")@127.0.0.1:$postgres_port/coupon
  if [ -z "$(sql_in postgres "select 1 from pg_database where datname = 'coupon'")" ]; then
    sql_in postgres 'create database coupon' >/dev/null
  fi
}

# Runs one statement in a database of the cluster, prints bare values.
sql_in() {
  "$postgres_bin/psql" "${postgres_url%/*}/$1" --no-psqlrc --quiet --tuples-only --no-align \
    --set=ON_ERROR_STOP=1 --command="$2"
}

postgres_is_alive() {
  local id
  id=$(head -n 1 "$postgres_dir/data/postmaster.pid" 2>/dev/null) && is_alive "$id"
}

stop_postgres() {
  postgres_is_alive || return 0
  as_postgres "$postgres_bin/pg_ctl" stop --silent --mode=fast --wait --timeout=60 --pgdata="$postgres_dir/data" || true
}
