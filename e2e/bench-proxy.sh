#!/usr/bin/env bash
# Our kube-proxy beside upstream's: Services with two endpoints each, in a network namespace of its own.
# usage: BIN=target/release UPSTREAM=dir-with-upstream's-kube-proxy e2e/bench-proxy.sh
# Both face the same API server (BIN/kube-apiserver, embedded store) one after the other, and start with an empty kernel.
# CPU is the proxy's and that of the programs it ran (iptables-restore, nft). "rules alone" is what the same rules cost
# when the kernel's own program loads them from a file. Memory is looked at REST seconds after the start, changes included:
# ours gives back what only a start needs after 30 and after 60.
set -euo pipefail
BIN=${BIN:-target/release} UPSTREAM=${UPSTREAM:-} SERVICES=${SERVICES:-1000 10000} MODES=${MODES:-iptables nftables}
CHANGES=${CHANGES:-20} REST=${REST:-80} OUT=${OUT:-/dev/null}
group=$(findmnt -n -o TARGET -t cgroup2 | head -1)/${NS:-bench-proxy}
. "$(dirname "$0")/proxy-lib.sh"

# In a group of its own, whose time the kernel counts in microseconds, programs it runs included.
grouped() { mkdir -p "$group"; exec bash -c 'echo $$ > "$0/cgroup.procs"; exec "$@"' "$group" ip netns exec "$ns" "$@"; }
cpu() { awk '/^user_usec/ {u = $2} /^system_usec/ {s = $2} END {print u / 1e6, s / 1e6}' "$group/cpu.stat"; }
# There is no page yet while the proxy starts.
metric() { { inside curl -s 127.0.0.1:10249/metrics || true; } | awk -v m="$1" 'index($1, m) == 1 && index($0, "IPv4") { print $2; exit }'; }
# Programs may outlive what started them.
gone() { until rmdir "$group" 2>/dev/null; do sleep 0.1; done; }
clean() { inside iptables-restore <<< $'*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT'; inside nft flush ruleset; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a - b }'; }

# The rules that are there now, loaded by the kernel's own program alone.
alone() { # mode
  if [ "$1" = nftables ]; then inside nft -s list ruleset > "$dir/rules"; else inside iptables-save > "$dir/rules"; fi
  clean
  local began; began=$(date +%s.%N)
  if [ "$1" = nftables ]; then (grouped nft -f - < "$dir/rules"); else (grouped iptables-restore < "$dir/rules"); fi
  echo "$(minus "$(date +%s.%N)" "$began") $(cpu)"; gone
}
first_sync() { for _ in $(seq 3000); do last=$(metric kubeproxy_sync_proxy_rules_last_timestamp_seconds); [ -n "$last" ] && [ "${last%%.*}" != 0 ] && return; sleep 0.1; done; }
of() { awk -v name="$1" '$1 == name {printf "%.1f", $2 / 1024}' "/proc/$pid/status"; }

measure() { # name, mode, services
  clean
  local began; began=$(date +%s.%N)
  (grouped "$dir/$1" --kubeconfig="$dir/kubeconfig" --hostname-override=bench --proxy-mode="$2" --cluster-cidr=10.128.0.0/9 \
    --conntrack-max-per-core=0 --healthz-bind-address=127.0.0.1:10256 > "$dir/$1.log" 2>&1) &
  local pid=$!; pids+=($pid)
  first_sync
  # The metric tells when the sync ended, however late it is read.
  local wall sync rules first before after made changed memory
  wall=$(minus "$last" "$began"); sync=$(metric kubeproxy_sync_full_proxy_rules_duration_seconds_sum)
  sleep 5; first=$(cpu)
  if [ "$2" = nftables ]; then rules=$(inside nft list map ip kube-proxy service-ips | grep -c goto || true); else rules=$(inside iptables-save -t nat | grep -c "^-A KUBE-SERVICES" || true); fi
  local partial=kubeproxy_sync_partial_proxy_rules_duration_seconds
  before=$(metric ${partial}_sum); made=$(metric ${partial}_count); made=${made:-0}; changed=$(cpu)
  for ((c = 1; c <= CHANGES; c++)); do
    TYPE=application/json ask -o /dev/null -X PUT $api/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s$((c * 7))-a -d "$(slice $((c * 7)) $((c + 2 + RANDOM % 50)))"
    sleep 1.6
  done
  sleep 1
  changed="$changed $(cpu)"; after=$(metric ${partial}_count); made="$made ${after:-0}"; after=$(metric ${partial}_sum)
  sleep "$(awk -v until="$(minus "$began" "-$REST")" -v now="$(date +%s.%N)" 'BEGIN { print (until > now) ? until - now : 0 }')"
  memory="$(of VmRSS:) $(of RssAnon:) $(of VmHWM:)"
  kill $pid; wait $pid 2>/dev/null || true
  gone
  echo "$2 $1 $3 $wall ${sync:-0} $first $changed ${before:-0} ${after:-0} $made $memory $rules $(alone "$2") $CHANGES" | awk '{
    d = $15 - $14; if (d < 1) d = 1; k = $NF
    printf "%-9s %-9s %6d  first sync: %7.2f s since start, %7.3f s sync, cpu user %6.2f sys %6.2f (rules alone: %.2f s, user %.2f sys %.2f)  ",
      $1, $2, $3, $4, $5, $6, $7, $20, $21, $22
    printf "one change: %8.1f ms, cpu user %7.1f sys %7.1f ms  memory MiB %6.1f anon %6.1f peak %6.1f  rules %d\n",
      ($13 - $12) / d * 1000, ($10 - $8) / k * 1000, ($11 - $9) / k * 1000, $16, $17, $18, $19 }' | tee -a "$OUT"
}

# Copies, as pages of a file that others run are theirs too.
cp "$BIN/kube-proxy" "$dir/ours"; [ -z "$UPSTREAM" ] || cp "$UPSTREAM/kube-proxy" "$dir/upstream"
have=0
for services in $SERVICES; do
  fill $((have + 1)) "$services"; have=$services
  for mode in $MODES; do
    measure ours "$mode" "$services"
    [ -z "$UPSTREAM" ] || measure upstream "$mode" "$services"
  done
done
