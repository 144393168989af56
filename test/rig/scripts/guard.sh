#!/bin/bash
# Keeps all that belongs to one rig alive, and ends it: when standard input ends (the tests are done, or died) every
# process, mount and link of the rig goes with the guard's namespaces, and the rig's folder is removed.
# usage: guard.sh RIG_FOLDER UPLINK      prints the process id of the guard's namespaces
set -u
rig=$1 uplink=$2
trap '' INT TERM HUP

# The namespaces' own process 1. When it ends, the kernel kills all that lives in them, also in the hosts inside.
inside='
  ip link add br0 type bridge && ip link set br0 up || exit 1
  read -r pid _ </proc/self/stat   # /proc is still the outer one here, so this is the process id seen from outside
  echo "$pid"
  exec >/dev/null
  while read -r _; do :; done
'
unshare --mount --net --pid --fork --kill-child -- /bin/bash -c "$inside"

# A network namespace is taken apart some time after its last process; the link must not outlive us.
ip link delete "$uplink" 2>/dev/null
rm -rf --one-file-system -- "$rig"
