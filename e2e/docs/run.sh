#!/usr/bin/env bash
# Executes the bash blocks of a page, in order, in one shell: e2e/docs/run.sh PAGE. With NETNS=1 it does so in a network
# namespace, folders and a cgroup of its own, and removes all of that afterwards; BIN= names the folder of the daemons and
# IMAGES= a docker archive to import. What the page says and does is thus what was executed.
set -euo pipefail
page=$(realpath "$1")
blocks() { awk '/^```bash$/ {on=1; next} /^```$/ {on=0} on' "$page"; }
[ -n "${NETNS:-}" ] || { blocks | bash -euo pipefail; exit; }
name=page$$ work=$(mktemp -d /var/tmp/pageXXXXXX)
inside() { nsenter --net="/run/netns/$name" "$@"; }
end() {
  for pid in "$work"/d/{kubelet,kube-proxy,kube-scheduler,kube-controller-manager}.pid; do
    [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null
  done
  for task in $(ctr -a "$work/d/containerd.sock" -n k8s.io tasks ls -q 2>/dev/null); do
    ctr -a "$work/d/containerd.sock" -n k8s.io tasks kill -s SIGKILL "$task" 2>/dev/null
  done
  sleep 2
  for pid in "$work"/d/{containerd,kube-apiserver}.pid; do [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null; done
  sleep 1
  awk -v at="$work/" 'index($5, at) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount -l
  find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null
  ip netns del "$name"
  [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap 'set +e; end' EXIT
ip netns add "$name"
inside ip link set lo up
inside ip link add node0 type veth peer name node0-peer
inside ip link set node0-peer up
inside ip addr add 10.198.0.1/24 dev node0
inside ip link set node0 up
inside ip route add default dev node0
for at in $(awk '{split($0, half, " - "); if (half[2] ~ /^cgroup/) print $5}' /proc/self/mountinfo); do
  mkdir -p "$at/$name"
  for file in cpuset.cpus cpuset.mems; do
    [ ! -f "$at/$file" ] || cat "$at/$file" > "$at/$name/$file" 2>/dev/null || true
  done
done
export K=$work/k D=$work/d CGROUP=/$name PATH=${BIN:+$BIN:}$PATH
if [ -n "${IMAGES:-}" ]; then export PAUSE=corten.local/pause:1 IMAGE=corten.local/busybox:1; fi
blocks > "$work/page.sh"
inside bash -euo pipefail "$work/page.sh" || {
  status=$?
  tail -n 5 "$work"/d/log/*.log
  exit $status
}
echo "every block of $(basename "$page") was executed"
