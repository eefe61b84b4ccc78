#!/usr/bin/env bash
# Upstream's conformance suite on a throw-away cluster: any mix of daemons, one node or several, on either store.
# FOCUS and SKIP choose specs, P is how many run at once, T ends the run after so many seconds, OUT keeps the results.
# KUBELET=/path/to/another and so on exchange a daemon; KEEP=1 leaves the cluster.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
export CORTEN_DIR=${CORTEN_DIR:-/var/tmp/conformance} CORTEN_BIN=$BIN IMAGES=$UPSTREAM/images.tar KUBECTL=$UPSTREAM/kubectl
OUT=${OUT:-$CORTEN_DIR-results}; mkdir -p "$OUT"; rm -f "$OUT/r.json"
end() { [ -n "${KEEP:-}" ] || "$BIN/cluster" smoke clean >"$OUT/down.log" 2>&1 || { echo "the cluster in $CORTEN_DIR could not be removed:"; cat "$OUT/down.log"; }; }
"$BIN/cluster" testimages "$UPSTREAM" "$IMAGES"
trap end EXIT
"$BIN/cluster" up --isolated
space=$(basename "$CORTEN_DIR"); export KUBECONFIG=$CORTEN_DIR/kubernetes/admin.conf
inside() { ip netns exec "$space" "$@"; }
inside "$KUBECTL" apply -f "$here/manifests/dns.yaml" >/dev/null
inside "$KUBECTL" -n kube-system rollout status deployment/coredns --timeout=120s
inside timeout "${T:-5400}" "$UPSTREAM/ginkgo" --procs="${P:-3}" --no-color --silence-skips --timeout="${T:-5400}s" \
  --focus="${FOCUS:-\[Conformance\]}" --skip="${SKIP:-\[Serial\]|\[Disruptive\]}" --output-dir="$OUT" --json-report=r.json \
  "$UPSTREAM/e2e.test" -- --provider=local --kubeconfig="$KUBECONFIG" --allowed-not-ready-nodes=0 --num-nodes="${NODES:-1}" \
  --report-dir="$OUT" --disable-log-dump --dump-logs-on-failure=false >"$OUT/log" 2>&1 || true
[ -f "$OUT/r.json" ] || { echo "the suite left no report; its last lines:"; tail -20 "$OUT/log"; exit 1; }
"$BIN/cluster" report "$OUT" "$here/conformance/upstream.txt" "$CORTEN_DIR"
