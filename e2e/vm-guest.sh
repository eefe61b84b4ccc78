# Runs in the machine that e2e/vm.sh starts; /share has the Debian packages, cluster and kubectl.
# Prints what each flow prints; ends with an error at the first that fails.
set -eu
say() { echo "== $(cut -d. -f1 /proc/uptime)s $*"; }
fail() { say "FAILED: $*"; exit 1; }
export PATIENCE=${PATIENCE:-8} KUBECTL=/usr/local/bin/kubectl CORTEN_BIN=/usr/bin PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cp /share/cluster /share/kubectl /usr/local/bin/
modprobe virtio_net; ip link set lo up; ip link set eth0 up 2>/dev/null || { first=$(ls /sys/class/net | grep -v lo | head -1); ip link set "$first" up; }
device=$(ls /sys/class/net | grep -v '^lo$' | head -1)
ip addr add 10.0.2.15/24 dev "$device"; ip route add default via 10.0.2.2
modprobe -a br_netfilter overlay ip_vs nf_conntrack; sysctl -qw net.ipv4.ip_forward=1
[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || fail "this machine has no cgroup v2"
dpkg -i /share/*.deb || fail "the packages do not install"
say "packages are installed, kernel $(uname -r), $(systemctl --version | head -1), state $(systemctl is-system-running || true)"

CORTEN_DIR=/var/tmp/flow cluster smoke || fail "the flow"
say "the flow passes"
CORTEN_DIR=/var/tmp/ipvs PROXY_MODE=ipvs cluster smoke || fail "the flow in mode ipvs"
say "the flow passes in mode ipvs"

# The machine's own cluster: units of systemd, pods in slices of systemd.
cluster up || fail "up"
for daemon in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
  [ "$(systemctl is-active corten-$daemon)" = active ] || fail "$daemon is no active unit: $(systemctl status corten-$daemon)"
done
[ -d /sys/fs/cgroup/kubepods.slice ] || fail "there is no slice of pods: $(ls /sys/fs/cgroup)"
export KUBECONFIG=/var/lib/corten/kubernetes/admin.conf
scope=$(find /sys/fs/cgroup/kubepods.slice -name 'cri-containerd-*.scope' | head -1)
[ -n "$scope" ] || fail "containers are in no scopes: $(find /sys/fs/cgroup/kubepods.slice -type d)"
say "up as units of systemd; a container's scope: ${scope#/sys/fs/cgroup/}"
containers() { kubectl get pods -o jsonpath='{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].containerID}{"\n"}{end}' | sort; }
before=$(containers)
for daemon in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
  pid=$(systemctl show -p MainPID --value corten-$daemon); kill -9 "$pid"
  for _ in $(seq 120); do
    now=$(systemctl show -p MainPID --value corten-$daemon)
    [ "$now" != 0 ] && [ "$now" != "$pid" ] && break; sleep 0.5
  done
  [ "$now" != 0 ] && [ "$now" != "$pid" ] || fail "systemd does not start $daemon again"
done
for _ in $(seq 120); do kubectl get --raw /readyz >/dev/null 2>&1 && break; sleep 1; done
kubectl wait node/node1 --for=condition=Ready --timeout=300s || fail "the node is not ready"
[ "$(containers)" = "$before" ] || fail "killed daemons changed the pods"
say "systemd starts killed daemons again, pods untouched"
cluster down --wipe || fail "down"
[ -z "$(systemctl list-units --no-legend 'corten-*')" ] || fail "units are left: $(systemctl list-units 'corten-*')"
[ ! -e /var/lib/corten ] || fail "data is left"
say "down leaves nothing"
