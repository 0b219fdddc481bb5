#!/usr/bin/env bash
# What test_containers.sh runs beside an engine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
. scripts/place.sh

export CARGO_NET_OFFLINE=true
# What the images hold; the build with pause points, which is in none, is lent to theirs.
export COUPON_RECONCILER=$reconciler

scripts/images.sh prebuilt
say 'What the images add to the official ones below them'
for image in redis valkey reconciler; do
  docker history --format '{{.Size}} {{.CreatedBy}}' "redis-coupon-test/$image" | sed -n "s|\([^ ]*\) COPY /out/.*|  $image \1|p"
done

say 'Tests of the images, and of compose.yaml'
cargo test "${checking_in_containers[@]}" --test containers

export COUPON_TEST_BACKEND=containers
if [ "$1" = short ]; then
  say 'End-to-end tests in containers: a part of them, as make test-containers runs all'
  cargo test "${checking_in_containers[@]}" --test module -- acl:: fence:: issue:: known:: replication_stream:: request:: unload::
  cargo test "${checking_in_containers[@]}" --test reconciler -- adopt:: relay:: sale::
else
  say 'End-to-end tests in containers'
  cargo test "${checking_in_containers[@]}" --test harness --test module --test model --test reconciler --test audit --test clients \
    --test torture --no-fail-fast
fi
