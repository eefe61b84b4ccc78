#!/usr/bin/env bash
# Upstream's node suite with our kubelet or another: it brings its own API server and takes a folder with a kubelet.
#   UPSTREAM=~/.cache/corten/upstream BIN=target/release [KUBELET=/path/to/another] e2e/node-suite.sh
# FOCUS and SKIP choose specs, P is how many run at once (serial ones want 1), T ends the run after so many seconds, OUT keeps
# the results, SUITE_FLAGS are more flags of the suite (--cri-proxy-enabled). It is compared with conformance/node.txt, a run with
# upstream's kubelet (another's: BASELINE). KEEP=1 leaves logs in CORTEN_DIR; CONTAINERD is a folder with another containerd.
#
# The suite wants a machine for itself: the kubelet's folder, the roots of control groups, a unit of systemd. It gets
# namespaces of its own, in which this script is process 1: what is left behind ends with it. node-suite-vm.sh gives it a
# machine (OWN_MACHINE=1), where systemd is process 1 and control groups are of version 2.
set -euo pipefail
self=$(readlink -f "$0"); here=$(dirname "$self")
dir=${CORTEN_DIR:-/var/tmp/node-suite}; name=$(basename "$dir"); out=${OUT:-$dir-results}
own_machine=${OWN_MACHINE:-} driver=cgroupfs
PATH=${CONTAINERD:+$CONTAINERD:}$PATH
[ -z "$own_machine" ] || driver=systemd
hierarchies() { awk '$3 ~ /^cgroup/ && $2 ~ "^/sys/fs/cgroup" {print $3, $2, $4}' /proc/mounts; }

outside() {
  mkdir -p "$dir" "$out"; dir=$(readlink -f "$dir"); OUT=$(readlink -f "$out"); rm -f "$OUT/r.json"
  UPSTREAM=$(readlink -f "${UPSTREAM:?what hack/upstream.sh built}"); BIN=$(readlink -f "${BIN:?our binaries}")
  KUBELET=$(readlink -f "${KUBELET:-$BIN/kubelet}"); IMAGES=${IMAGES:-$UPSTREAM/images.tar}
  export UPSTREAM BIN KUBELET IMAGES OUT CORTEN_DIR=$dir
  "$BIN/cluster" testimages "$UPSTREAM" "$IMAGES"
  trap clean EXIT
  # From within a namespace of control groups, the group in which it began is the root.
  ( while read -r _ at _; do
      mkdir -p "$at/$name"
      for file in cpuset.cpus cpuset.mems; do [ ! -e "$at/$file" ] || cat "$at/$file" > "$at/$name/$file"; done
      echo "$BASHPID" > "$at/$name/cgroup.procs"
    done < <(hierarchies)
    exec unshare --cgroup --net --mount --pid --uts --fork --kill-child --mount-proc "$self" inside )
  "$BIN/cluster" report "$OUT" "${BASELINE:-$here/conformance/node.txt}" "$dir"
}

clean() {
  local at path
  while read -r _ at _; do
    # The kernel takes a moment to see that the processes have ended.
    for _ in $(seq 50); do
      while read -r path; do rmdir "$path" 2>/dev/null || true; done < <(find "$at/$name" -depth -type d 2>/dev/null)
      [ -d "$at/$name" ] || continue 2
      sleep 0.1
    done
    echo "$at/$name could not be removed"
  done < <(hierarchies)
  [ -n "${KEEP:-}" ] || rm -rf "$dir"
}

# Fixed places, names, and a network whose default route lets the API server find an address of its own.
machine() {
  local folder kind at options
  mount --make-rshared /
  for folder in /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers /var/run/kubernetes /etc/cni/net.d; do
    mkdir -p "$folder" "$dir/places$folder"; mount --bind "$dir/places$folder" "$folder"
  done
  hostname node1
  printf '127.0.0.1 localhost\n10.199.0.1 node1\n' > "$dir/hosts"; mount --bind "$dir/hosts" /etc/hosts
  hierarchies > "$dir/hierarchies"
  while read -r kind at options; do
    options=$(tr , '\n' <<< "$options" | grep -vxE 'rw|ro|relatime|nosuid|nodev|noexec|nsdelegate' | paste -sd, || true)
    umount "$at"; mount -t "$kind" ${options:+-o "${options/#name=/none,name=}"} "$name" "$at"
  done < "$dir/hierarchies"
  ip link set lo up; ip link add node0 type veth peer name node0-peer; ip link set node0-peer up
  ip addr add 10.199.0.1/24 dev node0; ip link set node0 up; ip route add default dev node0
}

runtime() {
  mkdir -p "$dir/certs.d/_default" "$dir/log" /etc/cni/net.d
  echo '{"cniVersion": "1.0.0", "name": "node", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}' > /etc/cni/net.d/10-node.conflist
  printf '[host."http://127.0.0.1:5050"]\n  capabilities = ["pull", "resolve"]\n' > "$dir/certs.d/_default/hosts.toml"
  # Specs about credentials start a registry of their own there.
  mkdir -p "$dir/certs.d/localhost:5000"; echo 'server = "http://localhost:5000"' > "$dir/certs.d/localhost:5000/hosts.toml"
  cat > "$dir/containerd.toml" <<TOML
version = 2
root = "$dir/containerd"
state = "$dir/run"
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10.2"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = $([ $driver = systemd ] && echo true || echo false)
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "$dir/certs.d"
TOML
  "$BIN/cluster" registry "$IMAGES" 127.0.0.1:5050 > "$dir/log/registry.log" 2>&1 &
  local unit=()
  # Specs about the runtime's end ask systemd for its unit.
  [ -z "$own_machine" ] || unit=(systemd-run -q --unit=node-runtime -p Delegate=yes -p KillMode=process --setenv=PATH="$PATH"
    -p "StandardError=append:$dir/log/containerd.log")
  "${unit[@]}" "$(command -v containerd)" -c "$dir/containerd.toml" > "$dir/log/containerd.log" 2>&1 &
  for _ in $(seq 100); do ! ctr -a "$dir/containerd.sock" version > /dev/null 2>&1 || return 0; sleep 0.1; done
  echo "containerd does not start:"; tail "$dir/log/containerd.log"; return 1
}

# In place of systemd there is one unit, the kubelet's: systemd-run writes down how it starts, systemctl ends and starts it.
shims() {
  printf '#!/bin/bash\nunit=%q\n' "$dir/unit" | tee "$dir/shims/systemd-run" > "$dir/shims/systemctl"
  cat >> "$dir/shims/systemd-run" <<'SHIM'
[ "$1" != --version ] || { echo "systemd 252 (stand-in)"; exit; }
while [ $# -gt 0 ]; do
  case $1 in
    -p) case $2 in StandardError=*) log=${2#*:} ;; esac; shift 2 ;;
    --unit=*) name=${1#*=}; shift ;;
    -*) shift ;;
    *) break ;;
  esac
done
[ -n "${name:-}" ] || exec "$@"
command=("$@"); declare -p name log command > "$unit"
systemctl start "$name"
SHIM
  cat >> "$dir/shims/systemctl" <<'SHIM'
. "$unit"
alive() { [ -e "/proc/$(cat "$unit.pid" 2>/dev/null)/exe" ]; }
begin() { alive || { setsid "${command[@]}" >> "$log" 2>&1 < /dev/null & echo $! > "$unit.pid"; }; }
ended() { for _ in $(seq 900); do alive || return 0; sleep 0.1; done; kill -9 "$(cat "$unit.pid")"; }
finish() { ! alive || kill "$(cat "$unit.pid")"; }
case $1 in
  list-units) if alive; then echo "$name loaded active running"; elif [[ $* != *--state=running* ]]; then echo "$name loaded failed failed"; fi ;;
  reset-failed) ;;
  start) begin ;;
  kill) finish ;;
  stop) finish; ended ;;
  restart) finish; ended; begin ;;
  *) echo "there is no systemd here to $1" >&2; exit 1 ;;
esac
SHIM
}

# The suite calls sudo, which root need not have.
sudo_shim() {
  mkdir -p "$dir/shims"
  printf '#!/bin/sh\nexec "$@"\n' > "$dir/shims/sudo"
}

# The suite takes the kubelet that lies beside it.
programs() {
  mkdir -p "$dir/bin" "$dir/work"
  ln -sf "$KUBELET" "$dir/bin/kubelet"; ln -sf "$UPSTREAM/e2e_node.test" "$dir/bin/"
  printf '%s\n' 'apiVersion: kubelet.config.k8s.io/v1beta1' 'kind: KubeletConfiguration' 'failCgroupV1: false' \
    "cgroupDriver: $driver" \
    'cgroupRoot: /' 'failSwapOn: false' 'serializeImagePulls: false' 'volumeStatsAggPeriod: 10s' 'fileCheckFrequency: 10s' \
    'podCIDR: 10.244.0.0/24' 'evictionPressureTransitionPeriod: 30s' 'imageGCHighThresholdPercent: 99' \
    'evictionHard: {memory.available: 250Mi, nodefs.available: 2%, imagefs.available: 2%}' > "$dir/kubelet.yaml"
  # What upstream demands of a machine's kernel is not what is asked here.
  echo 'os: Linux' > "$dir/system.yaml"
}

# Under emulation a pull takes longer than specs wait for a pod: nearly all images share the layer of this one.
pulled() { ctr -a "$dir/containerd.sock" -n k8s.io images pull --hosts-dir "$dir/certs.d" registry.k8s.io/e2e-test-images/agnhost:2.66.1; }

inside() {
  sudo_shim
  if [ -z "$own_machine" ]; then machine; shims; fi
  chmod +x "$dir/shims/"*
  runtime
  [ -z "$own_machine" ] || pulled > "$dir/log/pull.log"
  programs; cd "$dir/work"
  PATH=$dir/shims:/usr/sbin:/usr/bin:/sbin:/bin timeout "${T:-7200}" "$UPSTREAM/ginkgo" --procs="${P:-3}" --no-color --silence-skips \
    --timeout="${T:-7200}s" --focus="${FOCUS:-\[NodeConformance\]}" --skip="${SKIP:-\[Serial\]|\[Slow\]|\[Flaky\]}" \
    --output-dir="$OUT" --json-report=r.json "$dir/bin/e2e_node.test" -- --prepull-images=false \
    --kubelet-config-file="$dir/kubelet.yaml" --system-spec-file="$dir/system.yaml" --report-dir="$OUT" \
    --container-runtime-endpoint="unix://$dir/containerd.sock" ${SUITE_FLAGS:-} > "$OUT/log" 2>&1 || true
  [ -f "$OUT/r.json" ] || { echo "the suite left no report; its last lines:"; tail -20 "$OUT/log"; exit 1; }
}

if [ "${1:-}" = inside ]; then inside; else outside; fi
