#!/usr/bin/env bash
# Installs what reads and checks the files of deploy/ into target/deploy, in the pinned versions of tests/deploy.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
scripts/install.sh pip prometheus systemd

deploy=$PWD/target/deploy
stamp=$deploy/$(sha256sum tests/deploy/requirements.txt scripts/deploy.sh | sha256sum | cut -c1-16)
[ ! -e "$stamp" ] || exit 0

say 'Fetching what checks the Kubernetes manifests'
rm -rf "$deploy"
mkdir -p "$deploy"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --require-hashes \
  --only-binary :all: --target "$deploy/python" -r tests/deploy/requirements.txt
touch "$stamp"
