# shellcheck shell=bash
# Where the programs are that the project needs, and whether they are new enough. Nothing is changed here.

REDIS_MAJOR_MIN=7
POSTGRES_MAJOR_MIN=14
NODE_MAJOR_MIN=18

# rustup installs here; a shell that was open before does not have it in its PATH yet.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH=$HOME/.cargo/bin:$PATH
fi

find_compiler() {
  printf 'int main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null
}

# The program, not the shell's own: the tests end servers with it, and a minimal Debian lacks it.
find_kill() {
  type -P kill >/dev/null
}

# Fetches the servers of other versions, and a client of docs/clients.md.
find_pip() {
  python3 -m pip --version >/dev/null 2>&1
}

# The page is tested in a real browser.
find_chromium() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if type -P "$name" >/dev/null; then
      return 0
    fi
  done
  [ -x '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome' ]
}

# The reconciler is tested through this pooler. Debian keeps it where only root's PATH leads.
find_pgbouncer() {
  type -P pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]
}

# Checks the alerts, and asks the dashboard's questions.
find_prometheus() {
  command -v prometheus >/dev/null && command -v promtool >/dev/null
}

# What a private Docker engine is made of, and compose; the images for its tests are made by mmdebstrap.
find_docker() {
  type -P dockerd >/dev/null && [ -x /usr/bin/docker ] && type -P docker-compose >/dev/null && type -P ip >/dev/null &&
    type -P mmdebstrap >/dev/null
}

# Makes hosts of their own, in network namespaces.
find_hosts() {
  [ "$(uname)" = Linux ] && [ "$(id -u)" -eq 0 ] && type -P ip >/dev/null
}

# Runs clients of docs/clients.md.
find_node() {
  command -v npm >/dev/null && [ "$(node_major)" -ge "$NODE_MAJOR_MIN" ]
}

# With the compiler, which a runtime alone lacks.
find_java() {
  java --list-modules 2>/dev/null | grep -q '^jdk\.compiler'
}

# The major version of Node, 0 if there is none.
node_major() {
  local version
  version=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p')
  printf '%s' "${version:-0}"
}

# bindgen reads Redis's header through libclang, which needs its own stddef.h beside it.
find_libclang() {
  if [ -n "${LIBCLANG_PATH:-}" ]; then
    return 0
  fi
  if [ "$(uname)" = Darwin ]; then
    xcrun --find clang >/dev/null 2>&1 || brew --prefix --installed llvm >/dev/null 2>&1
    return
  fi
  some_file /usr/lib*/llvm*/lib/libclang*.so* /usr/lib*/libclang*.so* /usr/lib/*-linux-*/libclang*.so* \
    /usr/local/lib*/libclang*.so* &&
    some_file /usr/lib*/llvm*/lib/clang/*/include/stddef.h /usr/lib*/clang/*/include/stddef.h \
      /usr/local/lib*/clang/*/include/stddef.h
}

some_file() {
  local file
  for file in "$@"; do
    if [ -e "$file" ]; then
      return 0
    fi
  done
  return 1
}

# The major version of a redis-server, 0 if there is none.
redis_major() {
  local version
  version=$(redis-server --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\)\..*/\1/p')
  printf '%s' "${version:-0}"
}

find_redis() {
  command -v redis-cli >/dev/null && [ "$(redis_major)" -ge "$REDIS_MAJOR_MIN" ]
}

# Prints the folder of the newest PostgreSQL server programs. Debian keeps them out of the PATH.
find_postgres() {
  local dir version best='' best_version=0
  for dir in "$(postgres_on_path)" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
    /usr/local/opt/postgresql@*/bin; do
    if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/psql" ]; then
      version=$("$dir/postgres" --version | sed -n 's/.*) \([0-9]*\).*/\1/p')
      if [ "${version:-0}" -gt "$best_version" ]; then
        best=$dir best_version=$version
      fi
    fi
  done
  [ "$best_version" -ge "$POSTGRES_MAJOR_MIN" ] && printf '%s' "$best"
}

postgres_on_path() {
  local program
  program=$(command -v postgres) && dirname "$program"
}
