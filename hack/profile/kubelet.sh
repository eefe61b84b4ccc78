#!/usr/bin/env bash
# Records the order of the kubelet's functions alone: kubelet.sh FOLDER-OF-RELEASED-DAEMONS [KUBELET]
# At rest with 100 pods, while pods come and go and kubectl looks into them, and from the first instruction on. Rewrites
# order-kubelet.txt.gz beside this script, which stands before the order of all daemons where the kubelet is linked. Root.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$1 kubelet=${2:-$1/kubelet} here=$PWD/hack/profile
work=${PROFILE_DIR:-$PWD/target/profile}/kubelet
mkdir -p "$work"
rm -f "$work"/*.txt
export PATIENCE=${PATIENCE:-3} KUBECTL=${KUBECTL:-$(hack/kubectl.sh | tail -1)} CORTEN_DIR=${CORTEN_DIR:-/var/tmp/profiled}
kubectl="ip netns exec $(basename $CORTEN_DIR) $KUBECTL --kubeconfig $CORTEN_DIR/kubernetes/admin.conf"
k() { $kubectl "$@"; }
pods() { k scale deployment many --replicas="$1"; k rollout status deployment many --timeout=300s; }
executed() { hack/profile/executed.py "$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$CORTEN_DIR/run/kubelet.json")" "$2" > "$work/$1.txt"; }
work_with_pods() { # Pods of every kind come and go, in at most a minute and a half.
  local pod
  k apply -f e2e/manifests/sample.yaml
  pods 60
  pod=$(k get pods -l app=many --field-selector=status.phase=Running -o 'jsonpath={.items[0].metadata.name}')
  for _ in 1 2 3; do k exec "$pod" -- true; k logs "$pod"; done
  k get --raw "/api/v1/nodes/$(k get nodes -o 'jsonpath={.items[0].metadata.name}')/proxy/stats/summary"
  k delete -f e2e/manifests/sample.yaml --wait=false
  pods 100
}
trap "'$bin/cluster' smoke clean" EXIT
KUBELET=$kubelet "$bin/cluster" up --isolated
k create deployment many --image=corten.local/busybox:1 --replicas=0 -- sleep 1000000
k patch deployment many --type=json -p '[{"op":"add","path":"/spec/template/spec/terminationGracePeriodSeconds","value":1}]'
pods 100
sleep "${SETTLE_SECONDS:-60}"
executed rest "${REST_SECONDS:-150}"
executed work "${WORK_SECONDS:-100}" &
sleep 10
work_with_pods > "$work/work.log"
wait
"$bin/cluster" smoke clean
printf '#!/bin/bash\nexec %q --all %q %q "$@"\n' "$here/executed.py" "$work/start.txt" "$kubelet" > "$work/kubelet"
chmod +x "$work/kubelet"
KUBELET=$work/kubelet "$bin/cluster" up --isolated
sleep 20
{
  cat "$work/rest.txt" "$work/work.txt"
  cut -d' ' -f2- "$work/start.txt" | tr ' ' '\n'
} | awk 'NF && !seen[$0]++' | gzip -9nc > "$here/order-kubelet.txt.gz"
wc -l "$work"/*.txt
