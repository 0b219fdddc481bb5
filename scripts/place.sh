# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that read this file use the names
# Where things are: build results, and the data of the private servers.

# Prints a path as seen from the root of the file system.
absolute() {
  case $1 in
    /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$PWD" "$1" ;;
  esac
}

target=$(absolute "${CARGO_TARGET_DIR:-target}")
if [ "$(uname)" = Darwin ]; then
  module=$target/release/libcoupon.dylib
else
  module=$target/release/libcoupon.so
fi
reconciler=$target/release/coupon-reconciler
bench=$target/release/coupon-bench

# The choice of packages and features of the checking build, for every call of cargo that builds or runs a part of it.
checking=(--workspace --features coupon-reconciler/pause-points)
# The same with the client of a Docker engine in the tests, which takes long to build.
checking_in_containers=("${checking[@]}" --features coupon-tests/containers)

data=$(absolute "${DATA_DIR:-.data}")

# Who uses the folder, and once the stack is up how it is reached; it holds a password.
stack_file=$data/stack.env

make_data_dir() {
  mkdir -p "$data" 2>/dev/null || true
  [ -w "$data" ] || fail "cannot write to $data" \
    'it may belong to another user: make it writable, or choose another place with DATA_DIR='
}
