#!/usr/bin/env bash
# Our kube-proxy in mode ipvs beside upstream's, on a kernel that has IPVS: a Debian machine under QEMU (ACCEL=kvm
# where that works). Both get the same API server (ours, outside the machine); what they leave in the kernel must be equal, either
# must be able to take over from the other, and connections must live on. Needs root, BIN and UPSTREAM with the binaries.
#   BIN=target/release UPSTREAM=target/upstream e2e/ipvs-vm.sh
# e2e/ipvs-guest.sh runs in it, as its first process.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release} UPSTREAM=${UPSTREAM:-target/upstream}
. e2e/vm-lib.sh

export NS=ipvs-vm; . e2e/proxy-lib.sh
cp "$BIN/kube-proxy" "$share/ours"; cp "$UPSTREAM/kube-proxy" "$share/upstream"; cp e2e/ipvs-guest.sh "$share/guest.sh"
# The machine's way to this namespace is QEMU's own network, where this machine's loopback is 10.0.2.2.
sed 's/127.0.0.1:6443/10.0.2.2:6443/' "$dir/kubeconfig" > "$share/kubeconfig"
LIMIT=${PATIENCE:-900} ACCEL=${ACCEL:-tcg,thread=single} boot /init ip netns exec "$ns"
