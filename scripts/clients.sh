#!/usr/bin/env bash
# Installs the clients that docs/clients.md shows into target/clients, in the pinned versions of tests/clients.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh

clients=$PWD/target/clients
pins=(tests/clients/requirements.txt tests/clients/package.json tests/clients/package-lock.json)
stamp=$clients/$(sha256sum "${pins[@]}" scripts/clients.sh | sha256sum | cut -c1-16)
[ ! -e "$stamp" ] || exit 0

scripts/install.sh pip node

say 'Fetching clients of other languages'
rm -rf "$clients"
mkdir -p "$clients/node"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --require-hashes \
  --only-binary :all: --target "$clients/python" -r tests/clients/requirements.txt
cp tests/clients/package.json tests/clients/package-lock.json "$clients/node"
(cd "$clients/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
touch "$stamp"
