#!/bin/bash
# Boots one test host: started inside the guard's namespaces and in new mount, network and uts ones; ends as process 1
# of the host. Prints `ready PID` (as seen from outside) when its sshd listens.
# usage: boot-host.sh HOST_FOLDER HOME_FOLDER NAME ADDRESS MAC LINK GUARD_PID
set -eu
folder=$1 homes=$2 name=$3 address=$4 mac=$5 link=$6 guard=$7
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd)

# Process 1 here is still the guard: the far end of the link lands in its network namespace, on the bridge.
ip -batch - <<END
link set lo up
link add eth0 address $mac type veth peer name $link netns 1
addr add $address/24 dev eth0
link set eth0 up
END
nsenter --net="/proc/$guard/ns/net" ip link set "$link" master br0 up
hostname "$name"

lay() { mount -n -o bind "$folder/$1" "$2"; }
[ -e /etc/machine-id ] || : >/etc/machine-id
[ -e /etc/hostname ] || : >/etc/hostname
for file in passwd group shadow hosts hostname machine-id; do lay "etc/$file" "/etc/$file"; done
mount -n -o bind "$homes/home" /home
mount -n -o bind "$homes/root" /root
lay local /usr/local
lay run /run
lay log /var/log
lay var-tmp /var/tmp
mount -n -t tmpfs tmpfs /dev/shm
# A machine without the stand-in has no nvidia-smi at all, whatever the real machine has.
if [ -e /usr/bin/nvidia-smi ]; then mount -n -o bind /dev/null /usr/bin/nvidia-smi; fi
lay tmp /tmp # last: the rig's own folder is usually under it

exec unshare --pid --fork --kill-child -- /bin/bash /usr/local/lib/init.sh "$sshd"
