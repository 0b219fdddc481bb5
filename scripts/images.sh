#!/usr/bin/env bash
# Builds the images of deploy/Dockerfile.
#   images.sh            redis-coupon/NAME: from source, on the official images
#   images.sh base       target/images/base.tar: what the stand-ins for the official images are made of; needs no engine
#   images.sh prebuilt   redis-coupon-test/NAME: out of target/release on the stand-ins, which asks no network
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
. scripts/place.sh

base=target/images/base.tar

# build PREFIX TARGET [BUILD-ARGUMENT…]
build() {
  local prefix=$1 target=$2 version revision arg args=()
  shift 2
  version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
  revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
  for arg in "VERSION=$version" "REVISION=$revision" "$@"; do
    args+=(--build-arg "$arg")
  done
  say "Building the image $prefix/$target"
  docker build --quiet --file deploy/Dockerfile --target "$target" "${args[@]}" \
    --tag "$prefix/$target" --tag "$prefix/$target:$version" . >/dev/null
}

# The same Debian as this one: what was built here needs its C library or a newer one. Ends with 69 (EX_UNAVAILABLE) elsewhere.
make_base() {
  local suite
  if [ "$(uname -sm)" != 'Linux x86_64' ] || ! grep -qx 'ID=debian' /etc/os-release; then
    printf 'the images for the tests are made of Debian, on Debian on x86_64\n' >&2
    exit 69
  fi
  [ ! -e "$base" ] || return 0
  suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  scripts/install.sh docker
  say "Making a base for images, of Debian $suite"
  mkdir -p target/images
  mmdebstrap --quiet --variant=essential --include=redis-server,postgresql \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "target/images/new.tar"
  mv target/images/new.tar "$base"
}

# Imported anew when it was made anew.
import_base() {
  local mark
  mark=$(cksum <"$base")
  if [ "$(docker image inspect --format '{{index .Config.Labels "base"}}' redis-coupon-test/base 2>/dev/null)" != "$mark" ]; then
    say 'Importing the base for images'
    docker import --change "LABEL base='$mark'" "$base" redis-coupon-test/base >/dev/null
  fi
}

build_prebuilt() {
  local artifact official=redis-coupon-test/official name
  for artifact in "$module" "$reconciler"; do
    strip --strip-unneeded -o "target/images/$(basename "$artifact")" "$artifact"
  done
  import_base
  for name in redis valkey postgres; do
    say "Building the stand-in for the official image of $name"
    docker build --quiet --file tests/stand-ins/Dockerfile --target "$name" --tag "$official-$name" \
      --build-arg BASE=redis-coupon-test/base . >/dev/null
  done
  for name in redis valkey reconciler; do
    build redis-coupon-test "$name" ARTIFACTS=prebuilt "REDIS_IMAGE=$official-redis" "VALKEY_IMAGE=$official-valkey" \
      RECONCILER_IMAGE=redis-coupon-test/base
  done
}

case ${1:-} in
  '')
    for target in redis valkey reconciler; do
      build redis-coupon "$target"
    done
    docker image ls --filter 'reference=redis-coupon/*'
    ;;
  base) make_base ;;
  prebuilt) build_prebuilt ;;
  *) fail "'$1' is no way to build images" 'none, base or prebuilt' ;;
esac
