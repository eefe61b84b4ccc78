#!/usr/bin/env bash
# What workloads notice when another controller manager takes over: nothing, if all is well.
#
# Needs a cluster that runs: CORTEN_DIR=/var/tmp/x KEEP=1 cluster smoke. Then:
#   CORTEN_DIR=/var/tmp/x OTHER=/path/to/another/kube-controller-manager [ROUNDS=3] e2e/workloads-swap.sh
# A Deployment, a StatefulSet and a DaemonSet with two revisions each are there; the running controller manager is killed,
# the other one takes over, then the first again, ROUNDS times. Each must have looked at all three, without that a pod, a
# replica set or a revision came, went or changed. Exits 1 otherwise.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/running-lib.sh"
image=${IMAGE:-corten.local/busybox:1}
own=$(readlink -f "/proc/$(pid_of kube-controller-manager)/exe")
kinds="deployment/swap-deployment statefulset/swap-set daemonset/swap-daemons"

workloads() { # REVISION
  local kind
  for kind in "Deployment swap-deployment 5" "StatefulSet swap-set 3" "DaemonSet swap-daemons"; do
    set -- "$1" $kind
    cat <<YAML
apiVersion: apps/v1
kind: $2
metadata: {name: $3, namespace: default}
spec:
  ${4:+replicas: $4}
  selector: {matchLabels: {app: swap, kind: $2}}
  template:
    metadata: {labels: {app: swap, kind: $2}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: $image, command: [sleep, "1000000"], env: [{name: REVISION, value: "$1"}]}]
---
YAML
  done
}
# Pods with their containers and restarts, and everything that would tell of a new revision.
seen() {
  kubectl get pods -l app=swap -o jsonpath='{range .items[*]}pod {.metadata.name} {.metadata.uid} {.metadata.ownerReferences[0].uid} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\n"}{end}' | sort
  kubectl get replicasets -l app=swap -o jsonpath='{range .items[*]}set {.metadata.name} {.metadata.uid} {.metadata.annotations.deployment\.kubernetes\.io/revision} {.spec.replicas} {.spec.template}{"\n"}{end}' | sort
  kubectl get controllerrevisions -l app=swap -o jsonpath='{range .items[*]}revision {.metadata.name} {.metadata.uid} {.metadata.resourceVersion} {.revision} {.data}{"\n"}{end}' | sort
  kubectl get $kinds -o jsonpath='{range .items[*]}{.kind} {.status.currentRevision} {.status.updateRevision} {.status.collisionCount} {.metadata.annotations.deployment\.kubernetes\.io/revision}{.metadata.annotations.deprecated\.daemonset\.template\.generation}{"\n"}{end}' | sort
}
looked_at() { [ "$(kubectl get "$1" -o jsonpath='{.metadata.generation}')" = "$(kubectl get "$1" -o jsonpath='{.status.observedGeneration}')" ]; }

# Something that is no part of a template changes, so that each workload must be looked at.
looked_at_all() {
  local kind
  for kind in $kinds; do
    kubectl patch "$kind" --type=merge -p "{\"spec\":{\"minReadySeconds\":$1}}" > /dev/null
    wait_until looked_at "$kind"
    kubectl rollout status "$kind" --timeout=120s > /dev/null
  done
}

for revision in 1 2; do
  workloads $revision | kubectl apply -f - > /dev/null
  for kind in $kinds; do kubectl rollout status "$kind" --timeout=180s > /dev/null; done
done
looked=1; looked_at_all $looked
before=$(seen)
echo "$(grep -c ^pod <<< "$before") pods, $(grep -c ^set <<< "$before") replica sets, $(grep -c ^revision <<< "$before") revisions, made under $own"
failed=0
for round in $(seq "${ROUNDS:-1}"); do
  for binary in "$OTHER" "$own"; do
    restart kube-controller-manager "$binary"
    looked=$((looked + 1)); looked_at_all $looked
    after=$(seen)
    if [ "$before" = "$after" ]; then echo "round $round, $binary: nothing changed"; else
      echo "round $round, $binary: CHANGED"; diff <(echo "$before") <(echo "$after") | cut -c1-300 | head -20; failed=1
    fi
  done
done
kubectl delete $kinds > /dev/null
exit $failed
