#!/bin/bash
# Ends a loopback rig when standard input ends: its servers, every process started through them, and its folder.
# usage: loopback-guard.sh RIG_FOLDER
set -u
rig=$1
trap '' INT TERM HUP
while read -r _; do :; done

for pid_file in "$rig"/*/sshd.pid; do
  [ -s "$pid_file" ] && kill "$(<"$pid_file")" 2>/dev/null
done
# Whatever ran on a host carries the host's mark in its environment. Again until none is left, as they may fork.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  marked=$(grep -lsaz -e "^TEST_HOST=$rig/" /proc/[0-9]*/environ)
  [ -n "$marked" ] || break
  for file in $marked; do
    pid=${file#/proc/}
    kill -KILL "${pid%/environ}" 2>/dev/null
  done
done
rm -rf -- "$rig"
