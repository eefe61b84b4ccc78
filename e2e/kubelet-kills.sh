#!/usr/bin/env bash
# What containers notice when the kubelet dies, the runtime dies, or another kubelet takes over: nothing, if all is well.
#
# Needs a cluster that runs: CORTEN_DIR=/var/tmp/x KEEP=1 cluster smoke. Then: CORTEN_DIR=/var/tmp/x e2e/kubelet-kills.sh
#   PODS=30  KILLS=100 (of the kubelet)  RUNTIME_KILLS=50  OTHER_KUBELET=/path (exchanged for the running one and back)
# Prints one line per part and exits 1 if a container restarted or something was left behind.
set -uo pipefail
. "$(dirname "$(readlink -f "$0")")/running-lib.sh"
pods=${PODS:-30} kills=${KILLS:-100} runtime_kills=${RUNTIME_KILLS:-50} other=${OTHER_KUBELET:-}
failed=0

healthy() { [ "$(kubectl get --raw /api/v1/nodes/node1/proxy/healthz)" = ok ]; }
all_run() { [ "$(kubectl get pods -l app=kills --field-selector=status.phase=Running -o name | wc -l)" = "$pods" ]; }
none_left() { [ -z "$(kubectl get pods -l app=kills -o name)" ]; }
# Every container with its restarts: two equal lists mean that none was touched.
containers() {
  kubectl get pods -l app=kills -o jsonpath='{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\n"}{end}' | sort
}
tasks() { ctr tasks ls -q | sort; }
# Mounts, control groups, sandboxes and containers, addresses of sandboxes seen here.
seen=$(mktemp); trap 'rm -f "$seen"' EXIT
held() {
  grep -c " $dir/kubelet/pods/" /proc/self/mountinfo
  find /sys/fs/cgroup -maxdepth 6 -type d -path "*/$name/kubepods*" -name 'pod*-*' 2>/dev/null | wc -l
  ctr containers ls -q | wc -l
  grep -lFf "$seen" /var/lib/cni/networks/*/[0-9]*.* 2>/dev/null | wc -l
}
compare() {
  local what=$1 before=$2 after
  after=$(containers; tasks)
  if [ "$before" = "$after" ]; then echo "$what: 0 restarts"; else
    echo "$what: RESTARTED"; diff <(echo "$before") <(echo "$after") | head -20; failed=1
  fi
}

echo none > "$seen"
empty=$(held | tr '\n' ' ')
kubectl apply -f - > /dev/null <<YAML || exit 1
apiVersion: apps/v1
kind: Deployment
metadata: {name: kills, namespace: default}
spec:
  replicas: $pods
  selector: {matchLabels: {app: kills}}
  template:
    metadata: {labels: {app: kills}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: ${IMAGE:-corten.local/busybox:1}
        command: [sleep, "1000000"]
        livenessProbe: {exec: {command: ["true"]}, periodSeconds: 5}
        volumeMounts: [{name: scratch, mountPath: /scratch}]
      volumes:
      - {name: scratch, emptyDir: {medium: Memory}}
YAML
wait_until all_run || { kubectl get pods -l app=kills -o wide; exit 1; }
before=$(containers; tasks)
ctr containers ls -q > "$seen"
for i in $(seq "$kills"); do
  restart kubelet
  # Some die while they start, some while they work.
  if [ $((i % 5)) = 0 ]; then wait_until healthy || exit 1; fi
  sleep "0.$((RANDOM % 10))"
done
wait_until healthy && wait_until all_run || exit 1
[ "$kills" = 0 ] || compare "kubelet killed $kills times, $pods pods" "$before"
for i in $(seq "$runtime_kills"); do
  restart containerd
  wait_until ctr version || exit 1
done
wait_until healthy && wait_until all_run || exit 1
[ "$runtime_kills" = 0 ] || compare "containerd killed $runtime_kills times, $pods pods" "$before"
if [ -n "$other" ]; then
  own=$(readlink -f "/proc/$(pid_of kubelet)/exe")
  for binary in "$other" "$own"; do
    restart kubelet "$binary"
    wait_until healthy && sleep 15 && wait_until all_run || exit 1
    compare "kubelet exchanged for $binary, $pods pods" "$before"
  done
fi
kubectl delete deployment kills > /dev/null
wait_until none_left || failed=1
sleep 15
left=$(held | tr '\n' ' ')
if [ "$empty" = "$left" ]; then echo "left behind (mounts, cgroups, containers, addresses): nothing"; else
  echo "left behind (mounts, cgroups, containers, addresses): $left, before: $empty"; failed=1
fi
exit $failed
