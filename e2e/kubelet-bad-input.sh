#!/usr/bin/env bash
# What a kubelet says of pods that cannot work, and that the rest of its node goes on: ours, then upstream's, on the same
# control plane, and where their words differ.
#
#   BIN=target/release UPSTREAM=~/.cache/corten/upstream CORTEN_DIR=/var/tmp/bad e2e/kubelet-bad-input.sh
# For each case of CASES the reasons that are expected; then everything that pod and events say, in OUT/ours and OUT/upstream.
# The kubelet's folder is a file system of 256 MiB, which is filled in the end. Exits 1 if a reason is missing or a line differs.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/running-lib.sh"
bin=${BIN:?folder of cluster and the daemons} out=${OUT:-$dir-results} small=$dir/small failed=0
mkdir -p "$out"
# Pods of bad-input.yaml, and what has to be said of each.
CASES='
image-missing         ImagePullBackOff.*ErrImagePull
image-never           ErrImageNeverPull
image-name            InvalidImageName
runtime-unknown       FailedCreatePodSandBox
command-missing       CrashLoopBackOff.*StartError.*BackOff:
subpath-link          CreateContainerConfigError.*failed.to.prepare.subPath
subpath-parent        CreateContainerConfigError.*failed.to.create.subPath
configmap-missing     FailedMount
secret-missing        CreateContainerConfigError
key-missing           CreateContainerConfigError
root-refused          CreateContainerConfigError
hostpath-type         FailedMount
driver-missing        FailedMount
sysctl-unsafe         SysctlForbidden
hook-fails            CrashLoopBackOff.*BackOff:.*FailedPostStartHook
too-large             OutOfcpu
other-node            NodeAffinity
too-long              DeadlineExceeded
too-much-memory       OOMKilled
volume-over-limit     Evicted
'
said() {
  kubectl get pod "$1" -o jsonpath='{.status.phase}|{.status.reason}|{.status.message}{"\n"}{range .status.initContainerStatuses[*]}{.name}: {.state.waiting.reason}|{.state.waiting.message}|{.state.terminated.reason}|{.state.terminated.message}|{.lastState.terminated.reason}{"\n"}{end}{range .status.containerStatuses[*]}{.name}: {.state.waiting.reason}|{.state.waiting.message}|{.state.terminated.reason}|{.state.terminated.message}|{.lastState.terminated.reason}{"\n"}{end}'
  kubectl get events --field-selector "involvedObject.name=$1" -o jsonpath='{range .items[*]}{.type} {.reason}: {.message}{"\n"}{end}' | grep -v ' Scheduled:' | sort -u
}
# Names that differ from run to run.
alike() {
  sed -E -e "s#$dir#DIR#g" -e 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UID/g' -e 's/[0-9a-f]{64}/ID/g' -e 's/"[0-9a-f]{12,13}"/"ID"/g' \
    -e 's/in [0-9.]+m?s \([0-9.]+m?s including waiting\)/in TIME/' -e 's/127\.0\.0\.[0-9]+:[0-9]+/ADDRESS/g' -e 's/back-off [0-9a-z]+ /back-off TIME /' -e 's/runc-process[0-9]+/runc-process/g'
}
# What was said when it was as expected: some states change to and fro.
expect() { said "$1" > "$out/last"; [[ $(tr '\n' ' ' < "$out/last") =~ $2 ]]; }
record() { { echo "-- $1"; cat "$out/last"; } | alike >> "$out/$side"; }
running() { [ "$(kubectl get pod "$1" -o jsonpath='{.status.phase}')" = Running ]; }
node_is() { [ "$(kubectl get node node1 -o jsonpath="{.status.conditions[?(@.type=='$1')].status}")" = "$2" ]; }
settled() { [ -z "$(kubectl get pods --no-headers 2>/dev/null)" ]; }
check() { local what=$1; shift; if wait_until "$@"; then echo "ok      $what"; else echo "FAILED  $what"; failed=1; fi; }

# Files that are no pods, each worse than the one before, and one that is.
manifests() {
  mkdir -p "$dir/manifests/folder.yaml"; cd "$dir/manifests" || exit 1
  printf 'a: [1\n b: }' > no-yaml.yaml; head -c 4096 /dev/urandom > bytes.yaml; : > empty.yaml; head -c 11000000 /dev/zero > large.yaml
  echo '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}' > other-kind.json
  echo '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}' > no-container.json
  echo '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "UPPER"}, "spec": {"containers": [{"name": "c", "image": "a"}]}}' > name.json
  ln -sf /nowhere link.yaml; ln -sf loop.yaml loop.yaml
  cat > good.yaml <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: static, namespace: default}
spec: {containers: [{name: c, image: "corten.local/busybox:1", command: [sleep, "1000000"]}]}
YAML
  cd - > /dev/null || exit 1
}

one_side() {
  local side=$1
  KEEP=1 KUBELET=$2 "$bin/cluster" smoke > "$out/$side.log" 2>&1 || { tail -20 "$out/$side.log"; exit 1; }
  kubectl delete deployments,pods --all --force --grace-period=0 > /dev/null 2>&1; wait_until settled
  mkdir -p "$small"; mount -t tmpfs -o size=256m,nr_inodes=64k bad "$small"; manifests
  MORE="--root-dir=$small --pod-manifest-path=$dir/manifests --file-check-frequency=1s --eviction-pressure-transition-period=5s
    --eviction-hard=nodefs.available<10%,memory.available<100Mi --fail-swap-on=false" restart kubelet
  echo "== $side"
  check "a static pod beside broken manifests" running static-node1
  kubectl apply -f "$here/manifests/bad-input.yaml" > /dev/null || exit 1
  check "a pod beside them" running healthy
  local pod reason; : > "$out/$side"
  while read -r pod reason; do
    [ -z "$pod" ] || { check "$pod: $reason" expect "$pod" "$reason"; record "$pod"; }
  done <<< "$CASES"
  dd if=/dev/zero of="$small/filler" bs=1M > /dev/null 2>&1
  check "full disk: the node's condition" node_is DiskPressure True
  kubectl run late --image=corten.local/busybox:1 --overrides='{"spec": {"nodeName": "node1", "tolerations": [{"operator": "Exists"}]}}' -- sleep 1000000 > /dev/null
  check "full disk: a late pod is refused" expect late 'node had condition: .DiskPressure'
  record late
  rm -f "$small/filler"
  check "space again: the node's condition" node_is DiskPressure False
  kubectl run later --image=corten.local/busybox:1 -- sleep 1000000 > /dev/null
  check "space again: a pod" running later
  check "the kubelet answers" inside curl -fsk "http://127.0.0.1:10248/healthz"
  echo "restarts of the pod beside them: $(kubectl get pod healthy -o jsonpath='{.status.containerStatuses[0].restartCount}' 2>/dev/null)"
  kubectl delete pods --all --force --grace-period=0 > /dev/null 2>&1
  "$bin/cluster" smoke clean > /dev/null 2>&1
  ! mountpoint -q "$small" || umount -R "$small"
}
one_side ours "${OURS:-$bin/kubelet}"
if [ -n "${UPSTREAM:-}" ]; then
  one_side upstream "$UPSTREAM/kubelet"
  echo "== what differs: ours <, upstream's >"
  diff "$out/ours" "$out/upstream" && echo nothing || failed=1
fi
exit $failed
