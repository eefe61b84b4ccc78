#!/usr/bin/env bash
# Our kubelet beside upstream's on the same machine, one after the other, everything else equal: memory and processor
# time while nothing happens with 0, 30 and 100 pods, and the kubelet's own share of a pod's start.
#
#   OURS=target/release/kubelet UPSTREAM=~/.cache/kube-reference/bin/kubelet BIN=target/release e2e/kubelet-bench.sh
#   IDLE=60 (seconds of rest that are measured)  STARTS=20 (pods started one by one)  COUNTS="0 30 100" (COUNTS= for none: only starts)
# A pod's start: from the API server's answer to its creation until its watch shows Running, less the time inside the
# runtime's RunPodSandbox, CreateContainer and StartContainer, as the runtime's own log tells it.
set -uo pipefail
bin=${BIN:?folder of cluster and the other daemons} idle=${IDLE:-60} starts=${STARTS:-20} counts=${COUNTS-0 30 100}
dir=${CORTEN_DIR:-/var/tmp/kubebench}; name=$(basename "$dir")
export CORTEN_DIR=$dir KUBECONFIG=$dir/kubernetes/admin.conf
kubectl() { nsenter --net="/run/netns/$name" "${KUBECTL:-kubectl}" "$@"; }
pid() { sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$dir/run/kubelet.json"; }
ticks() { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f12,13 | tr ' ' + | xargs -I{} sh -c 'echo $(({}))'; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
pods_at() {
  kubectl apply -f - > /dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: bench, namespace: default}
spec:
  replicas: $1
  selector: {matchLabels: {app: bench}}
  template:
    metadata: {labels: {app: bench}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: "corten.local/busybox:1", command: [sleep, "1000000"]}]
YAML
  kubectl rollout status deployment/bench --timeout=300s > /dev/null
}
# Milliseconds that the runtime spent on a pod, from pairs of lines in its log.
runtime_ms() {
  grep -E "(RunPodSandbox|CreateContainer|StartContainer)" "$dir/log/containerd.log" | awk -v pod="$1" '
    function at(line,  t, p) { match(line, /time="[^"]*"/); t = substr(line, RSTART + 6, RLENGTH - 7)
      split(t, p, /[T:.Z]/); return (p[2] * 3600 + p[3] * 60 + p[4]) * 1000 + substr(p[5] "000000000", 1, 9) / 1000000 }
    /RunPodSandbox/ && index($0, "Name:" pod ",") && !/returns/ { begin = at($0) }
    /RunPodSandbox/ && index($0, "Name:" pod ",") && /returns sandbox id/ { sum += at($0) - begin
      match($0, /returns sandbox id [^0-9a-f]*[0-9a-f]+/); id = substr($0, RSTART, RLENGTH); sub(/.*[^0-9a-f]/, "", id) }
    id != "" && /CreateContainer within sandbox/ && index($0, id) && !/returns/ { begin = at($0) }
    id != "" && /CreateContainer within sandbox/ && index($0, id) && /returns container id/ { sum += at($0) - begin
      match($0, /returns container id [^0-9a-f]*[0-9a-f]+/); c = substr($0, RSTART, RLENGTH); sub(/.*[^0-9a-f]/, "", c) }
    c != "" && /StartContainer for/ && index($0, c) && !/returns/ { begin = at($0) }
    c != "" && /StartContainer for/ && index($0, c) && /returns successfully/ { sum += at($0) - begin }
    END { printf "%d\n", sum }'
}
start_one() {
  local pod=start-$1 begin end
  # The watch is there before the pod, so that nothing is missed.
  coproc WATCH { kubectl get pods --field-selector="metadata.name=$pod" -w -o 'jsonpath={.status.phase}{"\n"}' 2> /dev/null; }
  sleep 0.3
  kubectl run "$pod" --image=corten.local/busybox:1 --restart=Never --command -- sleep 1000000 > /dev/null
  begin=$(date +%s%3N)
  while read -r phase <&"${WATCH[0]}"; do [ "$phase" != Running ] || break; done
  end=$(date +%s%3N)
  kill "$WATCH_PID" 2> /dev/null; wait "$WATCH_PID" 2> /dev/null
  echo "$((end - begin)) $(runtime_ms "$pod")"
  kubectl delete pod "$pod" --now > /dev/null
}
measure() {
  local side=$1 pods p before after
  KEEP=1 KUBELET=$2 "$bin/cluster" smoke > "/tmp/kubelet-bench-$side.log" 2>&1 || { tail -20 "/tmp/kubelet-bench-$side.log"; return 1; }
  p=$(pid)
  for pods in $counts; do
    pods_at "$pods"; sleep 20
    before=$(ticks "$p"); sleep "$idle"; after=$(ticks "$p")
    awk -v side="$side" -v pods="$pods" -v t=$((after - before)) -v s="$idle" -v hz="$(getconf CLK_TCK)" \
      -v kib="$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$p/status")" -v anon="$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$p/status")" \
      'BEGIN { printf "%-9s idle %3d pods: %6.2f %% of a core, %6.1f MiB resident (%5.1f anonymous)\n", side, pods, t / hz / s * 100, kib / 1024, anon / 1024 }'
  done
  pods_at 0
  local results
  results=$(for i in $(seq "$starts"); do start_one "$i"; done)
  printf '%-9s pod start: median %d ms in all, %d ms the own share (%d starts)\n' "$side" \
    "$(echo "$results" | cut -d' ' -f1 | median)" "$(echo "$results" | awk '{ print $1 - $2 }' | median)" "$starts"
  "$bin/cluster" smoke clean > /dev/null 2>&1
}
measure ours "${OURS:-$bin/kubelet}"
[ -z "${UPSTREAM:-}" ] || measure upstream "$UPSTREAM"
