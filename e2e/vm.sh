#!/usr/bin/env bash
# The seed flow in a machine with systemd and cgroup v2, from our Debian packages: a Debian machine under QEMU (ACCEL=kvm
# where that works). BIN has the cluster tool, DEBS the packages (make deb), KUBECTL a kubectl. e2e/vm-guest.sh runs in it.
#   BIN=target/release DEBS=target/deb KUBECTL=/usr/bin/kubectl e2e/vm.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/vm-lib.sh
rm -rf "$share"; mkdir -p "$share"
cp "$DEBS"/*.deb "$share/"; cp "$BIN/cluster" "$share/"; cp "$KUBECTL" "$share/kubectl"
cp e2e/vm-guest.sh "$share/guest.sh"
LIMIT=${LIMIT:-2400} CPUS=${CPUS:-2} MEMORY=${MEMORY:-4096} boot /sbin/init
