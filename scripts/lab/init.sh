#!/bin/sh
# /init of the lab's first root: puts a throw-away layer over the host's file tree and hands over to lab/start in it.
# A command that fails here ends PID 1, hence the kernel panics, and the runner shows this console.

set -e
export PATH=/bin

stage() {
  read -r uptime _ < /proc/uptime
  echo "lab: $uptime s: $1"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
stage 'init runs'

while read -r module; do insmod "$module"; done < /lab/boot-modules

# Nothing on the host changes what the guest has read: "loose" saves most round trips.
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro root /lower
mount -t tmpfs -o size=90% layers /layers
mkdir /layers/upper /layers/work
mount -t overlay -o lowerdir=/lower,upperdir=/layers/upper,workdir=/layers/work overlay /root
stage 'root is mounted'

# The fresh tmpfs on /tmp and /run may hide the project: it is held aside and put back in its place.
project=$(cat /lab/project)
mount --bind "/root$project" /keep
mount -t tmpfs tmpfs /root/run
mount -t tmpfs tmpfs /root/tmp
if [ -e "/root$project" ]; then
  umount /keep
else
  mkdir -p "/root$project"
  mount --move /keep "/root$project"
fi

out=$(cat /lab/out)
mkdir -p "/root$out"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none out "/root$out"

release=$(uname -r)
mkdir -p "/root/usr/lib/modules/$release"
mount --bind "/root$(cat /lab/modules)" "/root/usr/lib/modules/$release"

# What udev would make.
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mkdir /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# switch_root empties this root, so the job moves along.
cp -r /lab /root/run/lab
mount --move /dev /root/dev
mount --move /sys /root/sys
mount --move /proc /root/proc
exec switch_root /root /bin/bash /run/lab/start
