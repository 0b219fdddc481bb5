#!/usr/bin/env bash
# Inside the namespaces that engine.sh has made: starts the engine, runs the command, ends the engine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
. scripts/process.sh

run=$ENGINE_RUN
store=$PWD/target/engine
log=$run/log

# Debian's own client, where another is in the PATH before it: it fits the engine, and builds with BuildKit without a plugin.
mkdir -p "$run/bin" "$store"
ln -sf /usr/bin/docker "$run/bin/docker"
export PATH=$run/bin:$PATH DOCKER_HOST=unix://$run/docker.sock DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
# Whatever another engine's client was told does not hold here.
unset DOCKER_CONTEXT DOCKER_API_VERSION
export DOCKER_CONFIG=$run/config

ip link set lo up
# Not the settings of the engine that this machine may have too.
printf "{}\n" >"$run/daemon.json"
dockerd --host "$DOCKER_HOST" --data-root "$store" --exec-root "$run/exec" --pidfile "$run/pid" \
  --cgroup-parent "/$ENGINE_CGROUP" --config-file "$run/daemon.json" >"$log" 2>&1 </dev/null &
engine=$!

tries=600
until docker info >/dev/null 2>&1; do
  if ! is_alive "$engine" || [ "$tries" -eq 0 ]; then
    show_tail "$log"
    fail 'the private Docker engine does not start'
  fi
  tries=$((tries - 1))
  pause 0.1
done

status=0
"$@" || status=$?

# In order, so that its folders of containers are left as they have to be.
docker ps --quiet | xargs --no-run-if-empty docker rm --force >/dev/null || true
end_process "$engine" dockerd 20 || true
exit "$status"
