#!/bin/bash
# Makes sure that what the tests need to run real ssh servers and terminals is there: silent when it is. As root on Debian or
# Ubuntu it installs what is missing and says so; elsewhere it stops with the one line to run. The system's own
# ssh service is never started: the tests start servers themselves.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# command:package. Only root can use the tools of the second list (hosts in namespaces of their own).
needed="sshd:openssh-server ssh:openssh-client ssh-keygen:openssh-client tmux:tmux"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  needed="$needed ip:iproute2 unshare:util-linux nsenter:util-linux flock:util-linux ps:procps busybox:busybox"
fi

missing_packages() {
  local pair packages=""
  for pair in $needed; do
    command -v "${pair%%:*}" >/dev/null && continue
    case " $packages " in *" ${pair##*:} "*) ;; *) packages="$packages ${pair##*:}" ;; esac
  done
  echo "${packages# }"
}

packages=$(missing_packages)
[ -n "$packages" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  sudo="sudo "
  [ "$(id -u)" != 0 ] || sudo=""
  if command -v apt-get >/dev/null; then line="${sudo}apt-get install $packages"
  elif command -v dnf >/dev/null; then line="${sudo}dnf install openssh-server openssh-clients tmux"
  elif command -v zypper >/dev/null; then line="${sudo}zypper install openssh tmux"
  elif command -v pacman >/dev/null; then line="${sudo}pacman -S openssh tmux"
  elif command -v apk >/dev/null; then line="${sudo}apk add openssh tmux"
  else line="(install OpenSSH's server and client, and tmux, with this system's package manager)"
  fi
  echo "The tests need $packages, which is not installed. Run: $line" >&2
  exit 1
fi

# A policy-rc.d that answers 101 ("forbidden") keeps package scripts from starting services (see invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
kept=$policy.before-tests.$$
restore() {
  rm -f "$policy"
  if [ -e "$kept" ] || [ -L "$kept" ]; then mv "$kept" "$policy"; fi
}
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$kept"; fi
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

echo "The tests need $packages: installing (no service is started) ..." >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get -q update && apt-get -qy --no-install-recommends install $packages; } </dev/null >"$log" 2>&1; then
  cat "$log" >&2
  rm -f "$log"
  echo "Installing failed (its output is above). Run: apt-get update && apt-get install $packages" >&2
  exit 1
fi
rm -f "$log"

packages=$(missing_packages)
if [ -n "$packages" ]; then
  echo "apt-get ended well, yet $packages is still missing. Run: apt-get install --reinstall $packages" >&2
  exit 1
fi
