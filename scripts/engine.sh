#!/usr/bin/env bash
# Runs a command with a Docker engine within reach: engine.sh COMMAND [ARGUMENT…]
# The engine that answers is taken. Where none does, root on Linux gets a private one, in namespaces of its own: its network,
# with its bridge, firewall rules and published ports, is seen by the command alone, its processes end with the command, and
# what it stores is in target/engine. Ends with 69 (EX_UNAVAILABLE) where neither can be had.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh

UNAVAILABLE=69

if docker info >/dev/null 2>&1; then
  exec "$@"
fi
if [ "$(uname)" != Linux ] || [ "$(id -u)" -ne 0 ]; then
  printf 'no Docker engine answers, and only root on Linux can start a private one\n' >&2
  exit "$UNAVAILABLE"
fi
scripts/install.sh docker

# Short, as a socket's path may have 107 bytes at most.
run=$(mktemp -d /tmp/coupon-engine.XXXXXX)
# The folders that the engine's containers had, as the engine may have been killed.
cgroup=coupon-engine-$$
clean_up() {
  find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
  rm -rf "$run"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

ENGINE_RUN=$run ENGINE_CGROUP=$cgroup \
  unshare --net --mount --pid --fork --kill-child --mount-proc scripts/engine_private.sh "$@"
