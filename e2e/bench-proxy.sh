#!/usr/bin/env bash
# Our kube-proxy beside upstream's: Services with two endpoints each, in a network namespace of its own.
# usage: BIN=target/release UPSTREAM=dir-with-upstream's-kube-proxy e2e/bench-proxy.sh
# Both face the same API server (BIN/kube-apiserver, embedded store) one after the other, and start with an empty kernel.
# CPU is the proxy's and that of the programs it ran (iptables-restore, nft), from /proc/PID/stat.
set -euo pipefail
BIN=${BIN:-target/release} UPSTREAM=${UPSTREAM:-} SERVICES=${SERVICES:-1000 10000} MODES=${MODES:-iptables nftables}
CHANGES=${CHANGES:-10} OUT=${OUT:-/dev/stdout}
tick=$(getconf CLK_TCK)
. "$(dirname "$0")/proxy-lib.sh"

slice() { # number, third part of the first endpoint's address
  printf '{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"s%d-a","namespace":"default","labels":{"kubernetes.io/service-name":"s%d"}},"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[{"addresses":["10.%d.%d.%d"],"conditions":{"ready":true,"serving":true},"nodeName":"other"},{"addresses":["10.%d.%d.%d"],"conditions":{"ready":true,"serving":true},"nodeName":"other"}]}' \
    "$1" "$1" "$((128 + $1 / 16384))" "$(($1 / 128 % 128))" "$(($1 % 128 + 1))" "$((192 + $1 / 16384))" "$(($1 / 128 % 128))" "$(($1 % 128 + ${2:-1}))"
}
fill() { # from, to
  local i config="$dir/curl.conf"
  for ((i = $1; i <= $2; i++)); do
    for kind in services slices; do
      if [ $kind = services ]; then
        path=api/v1/namespaces/default/services
        body="{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"s$i\"},\"spec\":{\"selector\":{\"app\":\"s$i\"},\"ports\":[{\"name\":\"http\",\"port\":80,\"targetPort\":8080}]}}"
      else path=apis/discovery.k8s.io/v1/namespaces/default/endpointslices; body=$(slice "$i"); fi
      printf 'url = "%s/%s"\ndata = "%s"\nheader = "Authorization: Bearer bench"\nheader = "Content-Type: application/json"\ninsecure\nsilent\noutput = "/dev/null"\nnext\n' "$api" "$path" "${body//\"/\\\"}"
    done
  done > "$config"
  inside curl -s --parallel --parallel-max 16 -K "$config" 2>/dev/null || true
}
cpu() { awk -v t="$tick" '{sub(/.*\) /, ""); print (($12 + $14) / t) " " (($13 + $15) / t)}' "/proc/$1/stat"; }
metric() { inside curl -s 127.0.0.1:10249/metrics | awk -v m="$1" 'index($1, m) == 1 && index($0, "IPv4") { print $2; exit }'; }
clean() { inside iptables-restore <<< $'*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT'; inside nft flush ruleset; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a - b }'; }

measure() { # name, binary, mode, services
  clean
  local began user sys now u0 s0 partial before after
  began=$(date +%s.%N)
  ip netns exec "$ns" "$2" --kubeconfig="$dir/kubeconfig" --hostname-override=bench --proxy-mode="$3" --cluster-cidr=10.128.0.0/9 \
    --conntrack-max-per-core=0 --healthz-bind-address=127.0.0.1:10256 > "$dir/$1.log" 2>&1 &
  local pid=$!; pids+=($pid)
  for _ in $(seq 3000); do
    last=$(metric kubeproxy_sync_proxy_rules_last_timestamp_seconds); [ -n "$last" ] && [ "${last%%.*}" != 0 ] && break; sleep 0.1
  done
  # The metric tells when the sync ended, however late it is read.
  local wall; wall=$(awk -v l="$last" -v b="$began" 'BEGIN { printf "%.2f", l - b }')
  local sync; sync=$(metric kubeproxy_sync_full_proxy_rules_duration_seconds_sum)
  sleep 3
  read -r user sys <<< "$(cpu $pid)"
  local rules
  if [ "$3" = nftables ]; then rules=$(inside nft list map ip kube-proxy service-ips | grep -c goto || true); else rules=$(inside iptables-save -t nat | grep -c "^-A KUBE-SERVICES" || true); fi
  read -r u0 s0 <<< "$(cpu $pid)"
  before=$(metric kubeproxy_sync_partial_proxy_rules_duration_seconds_sum); before=${before:-0}
  local c0 c1; c0=$(metric kubeproxy_sync_partial_proxy_rules_duration_seconds_count); c0=${c0:-0}
  for ((c = 1; c <= CHANGES; c++)); do
    TYPE=application/json ask -o /dev/null -X PUT $api/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s$((c * 7))-a -d "$(slice $((c * 7)) $((c + 2 + RANDOM % 50)))"
    sleep 1.6
  done
  sleep 2
  read -r u1 s1 <<< "$(cpu $pid)"
  after=$(metric kubeproxy_sync_partial_proxy_rules_duration_seconds_sum); c1=$(metric kubeproxy_sync_partial_proxy_rules_duration_seconds_count)
  local rss peak; rss=$(awk '/VmRSS/ {printf "%.1f", $2 / 1024}' /proc/$pid/status); peak=$(awk '/VmHWM/ {printf "%.1f", $2 / 1024}' /proc/$pid/status)
  kill $pid; wait $pid 2>/dev/null || true
  awk -v n="$1" -v m="$3" -v s="$4" -v w="$wall" -v sync="${sync:-0}" -v u="$user" -v y="$sys" -v u0="$u0" -v s0="$s0" -v u1="$u1" -v s1="$s1" -v k="$CHANGES" \
    -v b="$before" -v a="${after:-0}" -v c0="$c0" -v c1="${c1:-0}" -v r="$rss" -v p="$peak" -v rules="$rules" 'BEGIN {
    d = c1 - c0; if (d < 1) d = 1
    printf "%-9s %-9s %6d  first sync: %7.2f s since start, %7.3f s sync, cpu user %6.2f sys %6.2f  one change: %8.1f ms, cpu user %7.1f sys %7.1f ms  memory MiB %6.1f peak %6.1f  rules %d\n",
      m, n, s, w, sync, u, y, (a - b) / d * 1000, (u1 - u0) / k * 1000, (s1 - s0) / k * 1000, r, p, rules }' | tee -a "$OUT"
}

have=0
for services in $SERVICES; do
  fill $((have + 1)) "$services"; have=$services
  for mode in $MODES; do
    measure ours "$BIN/kube-proxy" "$mode" "$services"
    [ -z "$UPSTREAM" ] || measure upstream "$UPSTREAM/kube-proxy" "$mode" "$services"
  done
done
