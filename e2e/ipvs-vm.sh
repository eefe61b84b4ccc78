#!/usr/bin/env bash
# Our kube-proxy in mode ipvs beside upstream's, on a kernel that has IPVS: a Debian machine under QEMU (ACCEL=kvm
# where that works). Both get the same API server (ours, outside the machine); what they leave in the kernel must be equal, either
# must be able to take over from the other, and connections must live on. Needs root, BIN and UPSTREAM with the binaries.
#   BIN=target/release UPSTREAM=target/upstream e2e/ipvs-vm.sh
# The machine is made once, in VM (default target/vm): debootstrap, a kernel, the tools. e2e/ipvs-guest.sh runs in it.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release} UPSTREAM=${UPSTREAM:-target/upstream} VM=${VM:-target/vm}
mkdir -p "$VM/share"; root=$VM/root share=$VM/share

machine() {
  [ -e "$root/boot" ] || debootstrap --variant=minbase bookworm "$root" > "$VM/debootstrap.log"
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"; chmod +x "$root/usr/sbin/policy-rc.d"
  cp /etc/resolv.conf "$root/etc/"
  chroot "$root" env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq
    apt-get install -y -qq --no-install-recommends linux-image-amd64 kmod cpio ipvsadm ipset iptables iproute2 busybox-static conntrack procps curl' >/dev/null
  cat > "$root/init" <<'INIT'
#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup; mkdir -p /share; modprobe 9pnet_virtio; modprobe 9p
mount -t 9p -o trans=virtio,version=9p2000.L share /share
sh /share/guest.sh > /share/out.txt 2>&1; echo "result $?" >> /share/out.txt
sync; echo o > /proc/sysrq-trigger; sleep 60
INIT
  chmod +x "$root/init"
  # The first file system: just enough to mount the second.
  local early=$VM/early version; version=$(ls "$root/lib/modules"); rm -rf "$early"; mkdir -p "$early"/{bin,mnt,proc,dev,m}
  cp "$root/usr/bin/busybox" "$early/bin/"
  local i=10
  for module in virtio_pci virtio_blk crc32c_generic ext4; do chroot "$root" modprobe --show-depends -S "$version" $module; done |
    awk '/^insmod/ && !seen[$2]++ {print $2}' | while read -r file; do cp "$root$file" "$early/m/$i.ko"; i=$((i+1)); done
  cat > "$early/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc; /bin/busybox mount -t devtmpfs dev /dev
for m in /m/*.ko; do /bin/busybox insmod $m; done
/bin/busybox mount -t ext4 /dev/vda /mnt && /bin/busybox mount -t devtmpfs dev /mnt/dev
exec /bin/busybox switch_root /mnt /init
INIT
  chmod +x "$early/init"
  cp -r "$early" "$root/early"; chroot "$root" sh -c 'cd /early && find . | cpio --quiet -o -H newc' > "$VM/initrd"; rm -rf "$root/early"
  cp "$root"/boot/vmlinuz-* "$VM/kernel"
  truncate -s 2G "$VM/disk"; mke2fs -q -F -t ext4 -d "$root" "$VM/disk"
}
[ -e "$VM/disk" ] || machine

export NS=ipvs-vm; . e2e/proxy-lib.sh
cp "$BIN/kube-proxy" "$share/ours"; cp "$UPSTREAM/kube-proxy" "$share/upstream"; cp e2e/ipvs-guest.sh "$share/guest.sh"
# The machine's way to this namespace is QEMU's own network, where this machine's loopback is 10.0.2.2.
sed 's/127.0.0.1:6443/10.0.2.2:6443/' "$dir/kubeconfig" > "$share/kubeconfig"
rm -f "$share/out.txt"
timeout "${PATIENCE:-900}" ip netns exec "$ns" qemu-system-x86_64 -M q35 -accel "${ACCEL:-tcg,thread=single}" -cpu max -m 2048 -smp 1 -nographic -no-reboot \
  -kernel "$VM/kernel" -initrd "$VM/initrd" -append "root=/dev/vda rw console=ttyS0 rdinit=/init panic=1 no_timer_check quiet" \
  -drive file="$VM/disk",format=raw,if=virtio,snapshot=on -nic user,model=virtio-net-pci \
  -virtfs local,path="$share",mount_tag=share,security_model=none > "$VM/console" 2>&1 < /dev/null || true
cat "$share/out.txt"
tail -1 "$share/out.txt" | grep -q '^result 0$'
