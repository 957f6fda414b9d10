#!/bin/bash
# PID 1 in the lab's machine: loads the modules, runs the command, reports how it ended, and powers off.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

stage() {
  local uptime
  read -r uptime _ < /proc/uptime
  echo "lab: $uptime s: $1"
}

# The virtio port with the given name. There is no udev that would link it below /dev/virtio-ports.
port() {
  local file device
  for file in /sys/class/virtio-ports/*/name; do
    device=${file%/name}
    if [[ $(< "$file") == "$1" ]]; then echo "/dev/${device##*/}"; fi
  done
}

# The command itself, in the subshell's place: exactly its arguments, exactly its environment.
run() {
  echo "$BASHPID" > "$group/cgroup.procs"
  cd "$project" || exit 126
  # shellcheck disable=SC2046
  unset -v $(compgen -e)
  export "${environment[@]}"
  exec -- "$@"
}

# Shows what the command waits for. Asked for by the runner when everything has been silent for too long.
explain() {
  local process
  for process in $(find "$group" -name cgroup.procs -exec cat {} +); do
    echo "lab: process $process: $(tr '\0' ' ' < "/proc/$process/cmdline")"
    cat /proc/"$process"/task/*/stack
  done
  echo explained >&3
}

exec 3<> "$(port lab.control)"
project=$(< /run/lab/project)
mapfile -d '' -t argv < /run/lab/argv
mapfile -d '' -t environment < /run/lab/environment

echo lab > /proc/sys/kernel/hostname
ip link set lo up
# Loading these makes a device each, unless told not to: what a command finds must not depend on who loaded them.
mkdir -p /etc/modprobe.d
echo 'options dummy numdummies=0' > /etc/modprobe.d/lab.conf
modprobe -a tun vhost_net kvm_amd
stage 'modules are loaded'

# In a group of its own, so that what the command leaves behind can be ended with it.
group=/sys/fs/cgroup/command
mkdir "$group"

while read -r request <&3; do "$request"; done &
relays=()
if [[ -e /run/lab/terminal ]]; then
  # Kept open: the last close of a terminal drops its settings and its input.
  exec 4<> /dev/hvc0
  read -r rows columns < /run/lab/terminal
  stty rows "$rows" columns "$columns" <&4
  echo started >&3
  (run setsid --ctty --wait "${argv[@]}") <&4 >&4 2>&4 3>&- 4>&-
  status=$?
else
  echo started >&3
  # A port can be opened only once, but a command may open /dev/stdout again: pipes allow it.
  for stream in stdout stderr; do
    mkfifo "/run/lab/$stream"
    cat < "/run/lab/$stream" > "$(port "lab.$stream")" 3>&- &
    relays+=("$!")
  done
  (run "${argv[@]}") < /dev/null > /run/lab/stdout 2> /run/lab/stderr 3>&-
  status=$?
fi
stage "the command ended with $status"

# A group can be removed as soon as its last process has closed all its files: then the drivers are done with it too.
echo 1 > "$group/cgroup.kill"
until find "$group" -depth -type d -exec rmdir {} + 2> /dev/null; do :; done
# Without an argument it would wait for the reader of requests, too.
((${#relays[@]} == 0)) || wait "${relays[@]}"

echo "exit $status" >&3
echo o > /proc/sysrq-trigger
exec sleep infinity
