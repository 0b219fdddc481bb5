#!/bin/sh
# Puts a coupon on offer, if it is not there yet, and says what to do with it.
set -eu
psql "$(cat /run/secrets/database-url)" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command="
  insert into coupon (id, name, quantity, status) values ('welcome', 'Welcome', 100, 'AVAILABLE') on conflict do nothing"
cat <<'END'
A coupon to try is on offer. In another terminal:
  docker compose run --rm cli COUPON.REQUEST 'coupon:{welcome}' 1001
  docker compose run --rm cli COUPON.WAIT 'coupon:{welcome}' 1001 5000
END
