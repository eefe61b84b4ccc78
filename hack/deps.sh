#!/usr/bin/env bash
# Installs the Debian packages that a task needs: hack/deps.sh build | cluster | suite | vm | profile. Does nothing when they are there.
set -euo pipefail
case "${1:-build}" in
  build) packages=(protobuf-compiler libprotobuf-dev gcc g++ make libc6-dev) ;;
  cluster) packages=(gcc libc6-dev containerd runc containernetworking-plugins iptables nftables ipset kmod conntrack
                     busybox-static iproute2 util-linux procps ethtool socat etcd-server) ;;
  suite) packages=(debootstrap gcc libc6-dev) ;;
  vm) packages=(qemu-system-x86 debootstrap e2fsprogs openssl curl iproute2) ;;
  profile) packages=(binutils python3) ;;
  *) echo "usage: hack/deps.sh build | cluster | suite | vm | profile" >&2; exit 2 ;;
esac
missing=()
for p in "${packages[@]}"; do dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p"); done
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || { echo "these packages are missing: ${missing[*]}. Install them, or run this as root." >&2; exit 1; }
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Starting the packaged services is not wanted: a cluster brings its own containerd and etcd.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
