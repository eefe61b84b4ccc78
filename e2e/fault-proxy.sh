#!/usr/bin/env bash
# Ends kube-proxy by kill -9 again and again under traffic through a Service: 200 open connections, 1,000 new ones a second.
# usage: BIN=target/release LOAD=target/release/examples/load [PROXY=another kube-proxy] e2e/fault-proxy.sh [iptables|nftables] [times]
# PAUSE: kills are less than so many seconds apart (1); more lets slow builds get as far as writing rules.
# OTHERS (300) further Services make a start take its time. Afterwards rules are flushed and tampered with, at any time of a
# sync period, and must be back within one. Counters tell packets that found no rules from those that found no processor:
# what still has the Service's address when it leaves, what was refused, and what the server was too slow to take.
set -euo pipefail
BIN=${BIN:-target/release} LOAD=${LOAD:-target/release/examples/load} PROXY=${PROXY:-$BIN/kube-proxy}
NS=${NS:-fault-proxy} mode=${1:-iptables} times=${2:-200} period=${PERIOD:-5}
. "$(dirname "$0")/proxy-lib.sh"
inside ip addr add 192.0.2.2/24 dev eth0
ip netns exec "$ns" "$LOAD" serve 192.0.2.1:8080 & pids+=($!)
ask -o /dev/null $api/api/v1/namespaces/default/services -d '{"kind":"Service","apiVersion":"v1","metadata":{"name":"target"},"spec":{"clusterIP":"10.96.7.7","ports":[{"name":"http","port":80,"targetPort":8080}]}}'
ask -o /dev/null $api/apis/discovery.k8s.io/v1/namespaces/default/endpointslices -d '{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"target-a","namespace":"default","labels":{"kubernetes.io/service-name":"target"}},"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[{"addresses":["192.0.2.1"],"nodeName":"bench"}]}'
fill 1 "${OTHERS:-300}"
inside nft -f - <<RULES
table ip observed {
  counter untranslated {}
  counter refused {}
  chain leaving {
    type filter hook postrouting priority 300;
    ip daddr 10.96.7.7 counter name untranslated
    icmp type destination-unreachable counter name refused
  }
}
RULES
observed() {
  for name in untranslated refused; do inside nft list counter ip observed $name | grep -o 'packets [0-9]*' | sed "s/packets/$name/"; done
  inside cat /proc/net/netstat | awk '/^TcpExt:/ && !n {split($0, names); n = 1; next} /^TcpExt:/ {for (i in names) if (names[i] ~ /^(ListenOverflows|ListenDrops|TCPSynRetrans)$/) print names[i], $i}'
}
start() {
  ip netns exec "$ns" "$PROXY" --kubeconfig="$dir/kubeconfig" --hostname-override=bench --proxy-mode="$mode" --cluster-cidr=192.0.2.0/24 \
    --conntrack-max-per-core=0 --healthz-bind-address=127.0.0.1:10256 --iptables-sync-period="${period}s" >> "$dir/proxy.log" 2>&1 8>&- &
  proxy=$!
}
reach() { inside timeout 1 bash -c 'exec 3<>/dev/tcp/10.96.7.7/80; echo -n x >&3; read -rn1 -t1 -u3 c; [ "$c" = x ]' 2>/dev/null; }
until_reached() { for _ in $(seq 200); do reach && return 0; sleep 0.1; done; echo "the Service cannot be reached"; tail -5 "$dir/proxy.log"; exit 1; }
trap 'kill "$proxy" 2>/dev/null || true; finish' EXIT
start; until_reached
inside nft reset counters table ip observed > /dev/null
mkfifo "$dir/end"; ip netns exec "$ns" "$LOAD" run 192.0.2.2:0 10.96.7.7:80 200 "${RATE:-1000}" < "$dir/end" > "$dir/result" & load=$!
exec 8> "$dir/end"
sleep 1
for ((i = 1; i <= times; i++)); do
  sleep $((RANDOM % ${PAUSE:-1})).$((RANDOM % 9 + 1)); kill -9 $proxy; wait $proxy 2>/dev/null || true; start
done
sleep 2; exec 8>&-; wait $load
echo "$mode: $times times killed: $(cat "$dir/result")"
observed
damage() {
  case $mode-$1 in
    nftables-flush) inside nft flush ruleset ;;
    nftables-element) inside nft delete element ip kube-proxy service-ips '{ 10.96.7.7 . tcp . 80 }' ;;
    nftables-chain) inside nft flush chain ip kube-proxy "$(inside nft list chains ip | grep -o 'service-[A-Z0-9]*-default/target/tcp/http')" ;;
    *-flush) inside iptables -t nat -F ;;
    *-element) inside iptables -t nat -D KUBE-SERVICES "$(($(inside iptables -t nat -S KUBE-SERVICES | grep -n 10.96.7.7 | cut -d: -f1) - 1))" ;;
    *-chain) inside iptables -t nat -F "$(inside iptables -t nat -S KUBE-SERVICES | grep 10.96.7.7 | grep -o 'KUBE-SVC-.*')" ;;
  esac
}
for kind in flush element chain flush element chain; do
  sleep $((RANDOM % period)).$((RANDOM % 10)); damage $kind; began=$(date +%s%N); back=
  for _ in $(seq $((period * 8))); do reach && back=yes && break; sleep 0.2; done
  if [ -n "$back" ]; then echo "$mode: $kind mended after $(( ($(date +%s%N) - began) / 1000000 )) ms (sync period ${period} s)"
  else echo "$mode: $kind not mended within $(( ($(date +%s%N) - began) / 1000000000 )) s"; kill $proxy; wait $proxy || true; start; until_reached; fi
done
kill $proxy
