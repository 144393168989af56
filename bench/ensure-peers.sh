#!/bin/bash
# Makes sure that what the bench measures itself against is there: GNU parallel. Silent when it is. As root on Debian or
# Ubuntu it installs it and says so; elsewhere it stops with the one line to run.
set -eu

# moreutils has another `parallel`, which knows nothing of machines.
is_there() { parallel --version </dev/null 2>/dev/null | head -n 1 | grep -q '^GNU parallel'; }
if is_there; then exit 0; fi

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  if command -v apt-get >/dev/null; then line="sudo apt-get install parallel"
  elif command -v dnf >/dev/null; then line="sudo dnf install parallel"
  elif command -v brew >/dev/null; then line="brew install parallel"
  else line="(install GNU parallel with this system's package manager)"
  fi
  echo "The bench needs GNU parallel, which is not installed. Run: $line" >&2
  exit 1
fi

echo "The bench needs GNU parallel: installing ..." >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { apt-get -qy --no-install-recommends install parallel; }
if ! { install || { apt-get -q update && install; }; } </dev/null >"$log" 2>&1; then
  cat "$log" >&2
  echo "Installing failed (its output is above). Run: apt-get update && apt-get install parallel" >&2
  exit 1
fi
is_there || { echo "apt-get ended well, yet \`parallel\` is not GNU parallel (moreutils has one of that name)." >&2; exit 1; }
