#!/bin/sh
# Makes the passwords of compose.yaml's services, once: each by chance, in files that only their reader can read. Redis gets
# its users as settings with digests in them, the others get addresses.
set -eu
umask 077
cd /run/secrets

# As the last one made: with it there, all are.
if [ -e database-url ]; then
  exit 0
fi

redis=999:999
reconciler=65532:65532

password() {
  head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

# keep FILE OWNER: what comes in, as that owner's.
keep() {
  cat >"$1.new"
  chown "$2" "$1.new"
  chmod 400 "$1.new"
  mv "$1.new" "$1"
}

# user NAME PASSWORD: the user as the shipped redis.conf proposes it.
user() {
  digest=$(printf '%s' "$2" | sha256sum)
  sed -n "s/^# user $1 on >CHANGE-ME /user $1 on #${digest%% *} /p" /etc/redis-coupon/redis.conf | grep .
}

application=$(password)
operator=$(password)
daemon=$(password)
database=$(password)

{
  # As redis.conf says, where the reason stands.
  echo 'user default off ~* &* +@all'
  user coupon-app "$application"
  user coupon-reconciler "$daemon"
  digest=$(printf '%s' "$operator" | sha256sum)
  echo "user operator on #${digest%% *} ~* &* +@all"
} | keep users.conf "$redis"
printf '%s\n' "$application" | keep application-password "$redis"
printf '%s\n' "$operator" | keep operator-password "$redis"
printf '%s\n' "redis://coupon-reconciler:$daemon@redis:6379" | keep redis-url "$reconciler"
printf '%s\n' "$database" | keep postgres-password 0:0
printf '%s\n' "postgres://coupon:$database@postgres:5432/coupon" | keep database-url "$reconciler"
