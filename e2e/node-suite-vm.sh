#!/usr/bin/env bash
# Upstream's node suite where systemd is process 1 and control groups are of version 2: a Debian machine under QEMU
# (ACCEL=kvm where that works), a slice of the suite because emulation is slow. FOCUS, SKIP, P, T, KUBELET as for
# node-suite.sh, which runs in it; OUT keeps the results, BASELINE those of a run with another kubelet to compare with.
# CPUS, MEMORY and NODES as for vm-lib.sh, SWAP in MiB: what managers of processors and memory want of a machine.
#   BIN=target/release UPSTREAM=~/.cache/corten/upstream FOCUS='Probing container' e2e/node-suite-vm.sh
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release} IMAGES=${IMAGES:-$UPSTREAM/images.tar} OUT=${OUT:-/var/tmp/node-suite-vm-results}
. e2e/vm-lib.sh
mkdir -p "$OUT"; rm -f "$OUT/r.json"
"$BIN/cluster" testimages "$UPSTREAM" "$IMAGES"
rm -rf "$share"; mkdir -p "$share/results"
cp "$UPSTREAM/e2e_node.test" "$UPSTREAM/ginkgo" "$BIN/cluster" e2e/node-suite.sh "$share/"
cp "${KUBELET:-$BIN/kubelet}" "$share/kubelet"; cp "$IMAGES" "$share/images.tar"
printf 'export %s=%q\n' FOCUS "${FOCUS:-\[NodeConformance\]}" SKIP "${SKIP:-\[Serial\]|\[Slow\]|\[Flaky\]}" P "${P:-2}" T "${T:-3600}" \
  SWAP "${SWAP:-0}" > "$share/choice"
cat > "$share/guest.sh" <<'GUEST'
set -eu
modprobe virtio_net; modprobe -a br_netfilter overlay nf_conntrack; sysctl -qw net.ipv4.ip_forward=1
device=$(ls /sys/class/net | grep -v '^lo$' | head -1); ip link set lo up; ip link set "$device" up
ip addr add 10.0.2.15/24 dev "$device"; ip route add default via 10.0.2.2; echo '10.0.2.15 node1' >> /etc/hosts
echo 'nameserver 10.0.2.3' > /etc/resolv.conf
[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || { echo "this machine has no cgroup v2"; exit 1; }
. /share/choice
[ "$SWAP" = 0 ] || { dd if=/dev/zero of=/swap bs=1M count="$SWAP" status=none; chmod 600 /swap; mkswap -q /swap; swapon /swap; }
mkdir -p /var/tmp/suite; cp /share/e2e_node.test /share/ginkgo /share/cluster /share/kubelet /var/tmp/suite/
export OWN_MACHINE=1 UPSTREAM=/var/tmp/suite BIN=/var/tmp/suite KUBELET=/var/tmp/suite/kubelet IMAGES=/share/images.tar
export CORTEN_DIR=/var/tmp/node-suite OUT=/share/results
echo "== $(cut -d. -f1 /proc/uptime)s kernel $(uname -r), $(systemctl --version | head -1)"; lscpu | grep -E ' per |NUMA|^CPU\(s\)'
bash /share/node-suite.sh inside
find /sys/fs/cgroup -maxdepth 2 -name '*.slice' | sort | head -20
GUEST
LIMIT=${LIMIT:-$((${T:-3600} + 600))} CPUS=${CPUS:-2} MEMORY=${MEMORY:-5120} boot /sbin/init || cp "$VM/console" "$OUT/console"
cp -r "$share/results/." "$OUT/"
"$BIN/cluster" report "$OUT" "${BASELINE:-e2e/conformance/node.txt}" "$OUT"
