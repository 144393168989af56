#!/bin/bash
# Process 1 of a test host: gives it a /proc and boot id of its own, starts its sshd, prints `ready PID` (as seen from
# outside) when that listens, and reaps orphans until it is killed, which is how a host is powered off.
# usage: init.sh SSHD
read -r pid _ </proc/self/stat # still the outer /proc
mount -n -t proc proc /proc
mount -n -o bind /run/boot_id /proc/sys/kernel/random/boot_id
if [ -d /usr/local/busybox ]; then
  for place in /usr/bin /usr/sbin /bin /sbin; do
    [ -L "$place" ] || /usr/local/busybox/mount -n -o bind /usr/local/busybox "$place"
  done
fi
cd /
"$1" -f /usr/local/etc/sshd_config -E /var/log/sshd.log </dev/null || exit 1
# sshd writes this file when it listens; should it never, the test gives the boot up.
until [ -s /run/sshd.pid ]; do read -rt 0.002 <> <(:) || :; done
echo "ready $pid"
exec </dev/null >/dev/null 2>&1
sleep infinity &
wait # for ever; meanwhile bash reaps every orphan, as a real process 1 does
