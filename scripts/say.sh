# shellcheck shell=bash
# What the scripts tell the person at the terminal.

# One step of the work.
say() {
  if [ -t 1 ]; then
    printf '\033[1m==> %s\033[0m\n' "$*"
  else
    printf '==> %s\n' "$*"
  fi
}

# What went wrong, then line by line what to do next; ends the script.
fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  if [ $# -gt 0 ]; then
    printf '       %s\n' "$@" >&2
  fi
  exit 1
}

# The end of a log, set off from the script's own words.
show_tail() {
  if [ -s "$1" ]; then
    printf -- '--- last lines of %s\n' "$1" >&2
    tail -n 25 "$1" >&2
    printf -- '---\n' >&2
  fi
}
