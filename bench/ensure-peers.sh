#!/bin/bash
# Makes sure that what the bench measures itself against is there: GNU parallel, rsync, pdsh, clush, task-spooler.
# Silent when they are.
# As root on Debian or Ubuntu it installs them and says so; elsewhere it stops with the one line to run.
set -eu

# Packages, and the command of each. moreutils has another `parallel`, which knows nothing of machines, and a `ts`, which is
# why task-spooler has `tsp`.
is_there() {
  case $1 in
    parallel) parallel --version </dev/null 2>/dev/null | head -n 1 | grep -q '^GNU parallel' ;;
    clustershell) command -v clush >/dev/null ;;
    task-spooler) command -v tsp >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}
missing=()
for peer in parallel rsync pdsh clustershell task-spooler; do
  is_there "$peer" || missing+=("$peer")
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  if command -v apt-get >/dev/null; then line="sudo apt-get install ${missing[*]}"
  elif command -v dnf >/dev/null; then line="sudo dnf install ${missing[*]}"
  elif command -v brew >/dev/null; then line="brew install ${missing[*]}"
  else line="(install ${missing[*]} with this system's package manager)"
  fi
  echo "The bench needs what is not installed (GNU parallel, rsync, pdsh, clush, task-spooler). Run: $line" >&2
  exit 1
fi

echo "The bench needs ${missing[*]}: installing ..." >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { apt-get -qy --no-install-recommends install "${missing[@]}"; }
if ! { install || { apt-get -q update && install; }; } </dev/null >"$log" 2>&1; then
  cat "$log" >&2
  echo "Installing failed (its output is above). Run: apt-get update && apt-get install ${missing[*]}" >&2
  exit 1
fi
for peer in "${missing[@]}"; do
  is_there "$peer" || { echo "apt-get ended well, yet there is no $peer (moreutils has another \`parallel\`)." >&2; exit 1; }
done
