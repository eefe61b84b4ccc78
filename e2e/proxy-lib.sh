# Sourced by bench-proxy.sh and fault-proxy.sh: a network namespace with an API server of ours and nothing else.
# Sets ns, dir, api; `inside` runs in the namespace, `ask` is curl to the API server. What goes to the background is
# started by ip itself: a function would put a shell in between, whose pid is not the program's.
ns=${NS:-bench-proxy} dir=$(mktemp -d) api=https://127.0.0.1:6443 pids=()
finish() { for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; sleep 1; ip netns del "$ns" 2>/dev/null || true; rm -rf "$dir"; }
trap finish EXIT
inside() { ip netns exec "$ns" "$@"; }
ask() { inside curl -sk -H "Authorization: Bearer bench" -H "Content-Type: ${TYPE:-application/json}" "$@"; }

# Services s1, s2, ... with two endpoints each, from one number to another.
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
      # Not after the last: curl would complain, and leave what is under way.
      [ "$i$kind" = "$1services" ] || echo next
      printf 'url = "%s/%s"\ndata = "%s"\nheader = "Authorization: Bearer bench"\nheader = "Content-Type: application/json"\ninsecure\nsilent\noutput = "/dev/null"\n' "$api" "$path" "${body//\"/\\\"}"
    done
  done > "$config"
  inside curl -s --parallel --parallel-max 16 -K "$config" 2>/dev/null
}

ip netns add "$ns"; inside ip link set lo up
inside ip link add eth0 type veth peer name eth1; inside ip link set eth1 up; inside ip addr add 192.0.2.1/24 dev eth0; inside ip link set eth0 up
inside ip route add default via 192.0.2.254
openssl genrsa -out "$dir/sa.key" 2048 2>/dev/null; openssl rsa -in "$dir/sa.key" -pubout -out "$dir/sa.pub" 2>/dev/null
echo 'bench,bench,1,system:masters' > "$dir/tokens"
cat > "$dir/kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "$api", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: bench}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
CONFIG
ip netns exec "$ns" "$BIN/kube-apiserver" --secure-port=6443 --cert-dir="$dir/certs" --token-auth-file="$dir/tokens" --authorization-mode=RBAC \
  --service-account-key-file="$dir/sa.pub" --service-account-signing-key-file="$dir/sa.key" \
  --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=10.96.0.0/12 --data-dir="$dir/store" \
  --advertise-address=192.0.2.1 --max-requests-inflight=0 --max-mutating-requests-inflight=0 --enable-priority-and-fairness=false > "$dir/api.log" 2>&1 &
pids+=($!)
for _ in $(seq 300); do [ "$(ask $api/readyz)" = ok ] && break; sleep 0.2; done
ask -o /dev/null $api/api/v1/nodes -d '{"kind":"Node","apiVersion":"v1","metadata":{"name":"bench"}}'
TYPE=application/merge-patch+json ask -o /dev/null -X PATCH $api/api/v1/nodes/bench/status -d '{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}'

