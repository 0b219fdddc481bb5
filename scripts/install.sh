#!/usr/bin/env bash
# Installs what is missing and nothing else: a C compiler, libclang, kill, redis-server, PostgreSQL, and of the tools for
# tests those that are named as arguments (pip, node, java, valgrind, chromium, prometheus, systemd, docker, ip, pgbouncer). With all there it
# asks no network and no password.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh
. scripts/find.sh

# Rust is the one thing a newcomer brings along: a distribution's own is too old for the crates used here.
command -v cargo >/dev/null || fail "Rust is not installed (no cargo found)" \
  "install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer as https://rustup.rs says, then try again"

tools=" $* "
wants() {
  case $tools in *" $1 "*) ;; *) return 1 ;; esac
}

list_missing() {
  find_compiler || echo compiler
  find_libclang || echo libclang
  find_kill || echo kill
  find_redis || echo redis
  find_postgres >/dev/null || echo postgres
  if wants pip; then find_pip || echo pip; fi
  if wants node; then find_node || echo node; fi
  if wants java; then find_java || echo java; fi
  if wants valgrind; then command -v valgrind >/dev/null || echo valgrind; fi
  if wants chromium; then find_chromium || echo chromium; fi
  if wants prometheus; then find_prometheus || echo prometheus; fi
  if wants systemd; then command -v systemd-analyze >/dev/null || echo systemd; fi
  if wants docker; then find_docker || echo docker; fi
  if wants ip; then type -P ip >/dev/null || echo ip; fi
  if wants pgbouncer; then find_pgbouncer || echo pgbouncer; fi
}

packages_for() {
  local manager=$1 part
  while read -r part; do
    case $manager-$part in
      apt-compiler) printf 'gcc libc6-dev ' ;;
      apt-libclang) printf 'libclang-dev ' ;;
      apt-kill) printf 'procps ' ;;
      apt-redis) printf 'redis-server redis-tools ' ;;
      apt-postgres) printf 'postgresql postgresql-client ' ;;
      apt-pip) printf 'python3-pip ' ;;
      apt-node) printf 'nodejs npm ' ;;
      apt-java) printf 'default-jdk-headless ' ;;
      apt-valgrind) printf 'valgrind ' ;;
      apt-chromium) printf 'chromium ' ;;
      apt-prometheus) printf 'prometheus ' ;;
      apt-systemd) printf 'systemd ' ;;
      apt-docker) printf 'docker.io docker-compose iproute2 mmdebstrap ' ;;
      apt-ip) printf 'iproute2 ' ;;
      apt-pgbouncer | brew-pgbouncer) printf 'pgbouncer ' ;;
      brew-compiler | brew-libclang) printf 'llvm ' ;;
      brew-redis) printf 'redis ' ;;
      brew-postgres) printf 'postgresql@17 ' ;;
      brew-pip) printf 'python ' ;;
      brew-chromium) printf 'google-chrome ' ;;
      brew-node) printf 'node ' ;;
      brew-java) printf 'openjdk ' ;;
    esac
  done
}

# Runs a command as root: directly, or through sudo, which may ask for a password.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

require_root() {
  if [ "$(id -u)" -eq 0 ]; then
    return
  fi
  command -v sudo >/dev/null || fail "installing needs root, and sudo is not here" "as root: apt-get install $*"
  sudo -n true 2>/dev/null || [ -t 0 ] || fail "installing needs root, and sudo would ask for a password without a terminal" \
    "as root: apt-get install $*"
}

# Debian starts a server as soon as it is installed, on the very port that `make run` wants. This file tells it not
# to; one that an administrator has put there stays as it is.
install_by_apt() {
  local policy=/usr/sbin/policy-rc.d
  require_root "$@"
  if [ ! -e "$policy" ]; then
    # shellcheck disable=SC2064 # the path is known now
    trap "as_root rm -f '$policy'" EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  # Slim images leave these out, and a JDK and PostgreSQL's client fail to install without.
  as_root mkdir -p /usr/share/man/man1 /usr/share/man/man7
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  # Nor at the next boot, if it was this script that brought it.
  if [ -d /run/systemd/system ]; then
    case " $* " in *' redis-server '*) as_root systemctl disable --quiet redis-server || true ;; esac
    case " $* " in *' postgresql '*) as_root systemctl disable --quiet postgresql || true ;; esac
    case " $* " in *' pgbouncer '*) as_root systemctl disable --quiet pgbouncer || true ;; esac
    case " $* " in *' prometheus '*) as_root systemctl disable --quiet prometheus || true ;; esac
    case " $* " in *' docker.io '*) as_root systemctl disable --quiet docker.service docker.socket containerd || true ;; esac
  fi
}

missing=$(list_missing)
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null; then
  manager=apt
elif command -v brew >/dev/null; then
  manager=brew
else
  fail "missing: ${missing//$'\n'/, }" \
    "neither apt-get nor brew is here; install a C compiler, libclang with its headers, procps, redis >= $REDIS_MAJOR_MIN.0 and a PostgreSQL server >= $POSTGRES_MAJOR_MIN by hand, and Chromium for the tests"
fi
packages=$(printf '%s\n' "$missing" | packages_for "$manager")
say "Installing by $manager: $packages"
# shellcheck disable=SC2086 # a list of words
case $manager in
  apt) install_by_apt $packages ;;
  brew) brew install $packages ;;
esac

missing=$(list_missing)
[ -z "$missing" ] || fail "still missing after the installation, or too old: ${missing//$'\n'/, }" \
  "needed are redis >= $REDIS_MAJOR_MIN.0, a PostgreSQL server >= $POSTGRES_MAJOR_MIN, a C compiler and libclang, and Chromium for the tests; this system's packages do not offer them, install them by hand"
