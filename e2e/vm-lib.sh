# Sourced by vm.sh and ipvs-vm.sh: a Debian machine under QEMU. It is made once, in VM (default target/vm): debootstrap, a
# kernel with IPVS and cgroup v2, systemd, containerd and the tools that the daemons call. Its disk is never written to
# afterwards. `boot PROGRAM` runs it with PROGRAM as the first process and share ($share, in it /share) as its only
# window; ACCEL=kvm where that works, CPUS (also as 8,sockets=2,cores=2,threads=2) and MEMORY (MiB) as given, in NODES parts.
VM=${VM:-target/vm}
mkdir -p "$VM/share"; root=$VM/root share=$VM/share

machine() {
  [ -e "$root/boot" ] || debootstrap --variant=minbase bookworm "$root" > "$VM/debootstrap.log"
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"; chmod +x "$root/usr/sbin/policy-rc.d"
  cp /etc/resolv.conf "$root/etc/"
  chroot "$root" env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq
    apt-get install -y -qq --no-install-recommends linux-image-amd64 kmod cpio ipvsadm ipset iptables iproute2 busybox-static conntrack procps curl \
      systemd systemd-sysv dbus udev containerd runc containernetworking-plugins nftables util-linux ethtool socat gcc libc6-dev mount' >/dev/null
  # Nothing that the packages bring starts by itself: a cluster brings its own containerd.
  chroot "$root" systemctl disable -q containerd.service 2>/dev/null || true
  chroot "$root" systemctl mask -q systemd-udev-settle.service apt-daily.timer apt-daily-upgrade.timer getty@tty1.service >/dev/null 2>&1 || true
  rm -f "$root/etc/resolv.conf"; mkdir -p "$root/share"; echo node1 > "$root/etc/hostname"; printf '127.0.0.1 localhost\n127.0.1.1 node1\n' > "$root/etc/hosts"
  printf '#!/bin/sh\nmount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run\nmount -t cgroup2 cgroup /sys/fs/cgroup\nexec sh /usr/local/sbin/guest\n' > "$root/init"
  # What runs in the machine comes through the share; then the machine ends.
  cat > "$root/usr/local/sbin/guest" <<'GUEST'
#!/bin/sh
mkdir -p /share; modprobe 9pnet_virtio; modprobe 9p
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 share /share
bash /share/guest.sh > /share/out.txt 2>&1; echo "result $?" >> /share/out.txt
sync; echo o > /proc/sysrq-trigger; sleep 60
GUEST
  chmod +x "$root/init" "$root/usr/local/sbin/guest"
  cat > "$root/etc/systemd/system/guest.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
ExecStart=/usr/local/sbin/guest
TasksMax=infinity
[Install]
WantedBy=multi-user.target
UNIT
  chroot "$root" systemctl enable -q guest.service 2>/dev/null
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
next=$(/bin/busybox sed 's/.*next=\([^ ]*\).*/\1/' /proc/cmdline)
/bin/busybox mount -t ext4 /dev/vda /mnt && /bin/busybox mount -t devtmpfs dev /mnt/dev
exec /bin/busybox switch_root /mnt $next
INIT
  chmod +x "$early/init"
  cp -r "$early" "$root/early"; chroot "$root" sh -c 'cd /early && find . | cpio --quiet -o -H newc' > "$VM/initrd"; rm -rf "$root/early"
  cp "$root"/boot/vmlinuz-* "$VM/kernel"
  truncate -s 8G "$VM/disk.partial"; mke2fs -q -F -t ext4 -d "$root" "$VM/disk.partial"; mv "$VM/disk.partial" "$VM/disk"
}
[ -e "$VM/disk" ] || machine

# Memory and processors in NODES equal parts, each nearer to itself than to the others.
numa() {
  local nodes=${NODES:-1} cpus=${CPUS:-1} i j each
  [ "$nodes" -gt 1 ] || return 0
  cpus=${cpus%%,*} each=$((${cpus%%,*} / nodes))
  for ((i = 0; i < nodes; i++)); do
    echo "-object memory-backend-ram,id=m$i,size=$((${MEMORY:-2048} / nodes))M"
    echo "-numa node,nodeid=$i,memdev=m$i,cpus=$((i * each))-$((i * each + each - 1))"
    for ((j = 0; j < nodes; j++)); do [ "$i" = "$j" ] || distances+=" -numa dist,src=$i,dst=$j,val=$((i / 2 == j / 2 ? 12 : 20))"; done
  done
  echo "${distances:-}"
}

# boot PROGRAM [PREFIX...]: PREFIX is what runs QEMU, a network namespace for example. True if guest.sh ended well.
boot() {
  local program=$1; shift
  rm -f "$share/out.txt"
  timeout "${LIMIT:-900}" "$@" qemu-system-x86_64 -M q35 -accel "${ACCEL:-tcg,thread=multi}" -cpu max,vendor=GenuineIntel -m "${MEMORY:-2048}" -smp "${CPUS:-1}" $(numa) \
    -nographic -no-reboot -kernel "$VM/kernel" -initrd "$VM/initrd" \
    -append "root=/dev/vda rw console=ttyS0 rdinit=/init next=$program panic=1 no_timer_check quiet" \
    -drive file="$VM/disk",format=raw,if=virtio,snapshot=on -nic user,model=virtio-net-pci \
    -virtfs local,path="$share",mount_tag=share,security_model=none > "$VM/console" 2>&1 < /dev/null || true
  [ -e "$share/out.txt" ] || { echo "the machine did not get to run anything; its console:"; tail -20 "$VM/console"; return 1; }
  cat "$share/out.txt"
  tail -1 "$share/out.txt" | grep -q '^result 0$'
}
