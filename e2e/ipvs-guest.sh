# Runs in the machine that e2e/ipvs-vm.sh starts; /share has ours, upstream (kube-proxy both) and kubeconfig.
# Prints a line per check; ends with an error at the first that fails.
set -eu
api=https://10.0.2.2:6443 node=node1
say() { echo "$(cut -d. -f1 /proc/uptime)s $*"; }
fail() { say "FAILED: $*"; exit 1; }
ask() { curl -sk -H "Authorization: Bearer bench" -H "Content-Type: ${TYPE:-application/json}" "$@"; }
# until SECONDS COMMAND: a deadline, as nothing tells when the kernel has rules.
until_true() { n=$1; shift; while [ "$n" -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; n=$((n-1)); sleep 1; done; return 1; }

modprobe virtio_net; modprobe dummy; ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
sysctl -qw net.ipv4.ip_forward=1
# Each pod has a link of its own, so that all its traffic is routed here.
for i in 1 2 3; do
  ip netns add pod$i; ip link add veth$i type veth peer name eth0 netns pod$i; ip link set veth$i up
  sysctl -qw net.ipv4.conf.veth$i.proxy_arp=1; ip -n pod$i link set lo up; ip -n pod$i link set eth0 up
  ip -n pod$i addr add 10.244.0.1$i/32 dev eth0; ip -n pod$i route add 169.254.1.1 dev eth0; ip -n pod$i route add default via 169.254.1.1
  ip route add 10.244.0.1$i/32 dev veth$i
  mkdir -p /tmp/pod$i; echo "pod$i" > /tmp/pod$i/name
  ip netns exec pod$i busybox httpd -p 8080 -h /tmp/pod$i
  ip netns exec pod$i busybox nc -ll -p 9000 -e cat &
done
until_true 60 ask -f $api/readyz || fail "no API server"

post() { ask -f -o /dev/null -X POST "$api$1" -d "$2" || fail "post $1"; }
post /api/v1/nodes '{"kind":"Node","apiVersion":"v1","metadata":{"name":"node1"}}'
TYPE=application/merge-patch+json ask -f -o /dev/null -X PATCH $api/api/v1/nodes/node1/status -d '{"status":{"addresses":[{"type":"InternalIP","address":"10.0.2.15"}]}}'
service() { post /api/v1/namespaces/default/services "{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"$1\"},\"spec\":{\"clusterIP\":\"$2\",$3}}"; }
# endpoints NAME METHOD ADDRESS...: a slice of ready pods on this node.
endpoints() {
  name=$1 method=$2; shift 2; list=
  for a in "$@"; do list="$list${list:+,}{\"addresses\":[\"$a\"],\"nodeName\":\"node1\",\"conditions\":{\"ready\":true}}"; done
  path=/apis/discovery.k8s.io/v1/namespaces/default/endpointslices; [ "$method" = POST ] || path=$path/$name-1
  ask -f -o /dev/null -X "$method" "$api$path" -d "{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{\"name\":\"$name-1\",\"labels\":{\"kubernetes.io/service-name\":\"$name\"}},\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"http\",\"port\":8080,\"protocol\":\"TCP\"},{\"name\":\"echo\",\"port\":9000,\"protocol\":\"TCP\"}],\"endpoints\":[$list]}" || fail "slice of $name"
}
ports='"ports":[{"name":"http","port":80,"targetPort":8080},{"name":"echo","port":90,"targetPort":9000}]'
service plain 10.96.0.10 "$ports"; endpoints plain POST 10.244.0.11 10.244.0.12
service sticky 10.96.0.11 "\"sessionAffinity\":\"ClientIP\",$ports"; endpoints sticky POST 10.244.0.11 10.244.0.12
service outside 10.96.0.12 '"type":"NodePort","externalIPs":["203.0.113.5"],"ports":[{"name":"http","port":80,"targetPort":8080,"nodePort":30080}]'; endpoints outside POST 10.244.0.11
service nobody 10.96.0.13 "$ports"
service balanced 10.96.0.14 '"type":"LoadBalancer","externalTrafficPolicy":"Local","loadBalancerSourceRanges":["10.244.0.0/16"],"ports":[{"name":"http","port":80,"targetPort":8080,"nodePort":30081}]'; endpoints balanced POST 10.244.0.11
TYPE=application/merge-patch+json ask -f -o /dev/null -X PATCH $api/api/v1/namespaces/default/services/balanced/status -d '{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.9"}]}}}'
say "machine and objects are there, kernel $(uname -r)"

start() {
  "/share/$1" --kubeconfig=/share/kubeconfig --proxy-mode=ipvs --hostname-override=$node --ipvs-sync-period=10s --cluster-cidr=10.244.0.0/16 ${2:-} > /share/$1.log 2>&1 &
  proxy=$!
  until_true 120 settled || fail "$1 does not get ready: $(tail -5 /share/$1.log)"
}
settled() { [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:10256/healthz)" = 200 ] && ipvsadm -Ln | grep -q 198.51.100.9:80 && ipset test KUBE-IPVS-IPS 198.51.100.9 && iptables -t nat -S KUBE-SERVICES | grep -q KUBE-LOAD-BALANCER; }
stop() { kill $proxy; wait $proxy 2>/dev/null || true; }
dump() {
  { ipvsadm -Sn | sort; ipset save | grep KUBE- | sed 's/ bucketsize [0-9]*//; s/ initval [0-9a-fx]*//' | sort
    for table in nat filter; do iptables-save -t $table | grep KUBE- | sed 's/ \[[0-9:]*\]//' | sort -s -k1,2; done
    ip -o -4 addr show dev kube-ipvs0 | awk '{print $4}' | sort; sysctl net.ipv4.vs.conntrack net.ipv4.vs.expire_nodest_conn net.ipv4.vs.expire_quiescent_template
  } > "/share/$1.dump"
}
name_of() { curl -s -m 5 "http://$1/name"; }
traffic() {
  for address in 10.96.0.10:80 10.96.0.11:80 203.0.113.5:80 10.0.2.15:30080 10.96.0.14:80 10.0.2.15:30081; do
    [ -n "$(name_of $address)" ] || fail "$1: the node does not reach $address"
  done
  for address in 10.96.0.10:80 203.0.113.5:80 198.51.100.9:80; do
    [ -n "$(ip netns exec pod3 curl -s -m 5 http://$address/name)" ] || fail "$1: a pod does not reach $address"
  done
  [ "$(for i in 1 2 3 4 5 6; do name_of 10.96.0.10:80; done | sort -u | wc -l)" = 2 ] || fail "$1: not balanced"
  [ "$(for i in 1 2 3 4 5 6; do name_of 10.96.0.11:80; done | sort -u | wc -l)" = 1 ] || fail "$1: not sticky"
  [ -z "$(name_of 10.96.0.13:80)" ] || fail "$1: somebody serves nobody's address"
  # A pod's own Service leads back to it.
  [ -n "$(ip netns exec pod1 curl -s -m 5 http://10.96.0.12/name)" ] || fail "$1: no way back to itself"
}
# An open connection through a Service, with a line sent and answered at any time.
open_connection() { rm -f /tmp/in /tmp/back; mkfifo /tmp/in; busybox nc 10.96.0.10 90 < /tmp/in > /tmp/back & exec 3> /tmp/in; alive "$1"; }
alive() { echo "$1" >&3; until_true 5 grep -q "^$1\$" /tmp/back || fail "the open connection is cut: $1"; }

start ours; traffic ours; dump ours; say "ours serves"
stop; /share/ours --cleanup > /share/cleanup.log 2>&1 || fail "cleanup: $(cat /share/cleanup.log)"
[ -z "$(ipvsadm -Sn; ipset list -n | grep KUBE; iptables-save | grep KUBE; ip link show kube-ipvs0 2>/dev/null)" ] || fail "cleanup leaves things"
say "ours cleans up"
start upstream; traffic upstream; dump upstream; say "upstream serves"
diff /share/upstream.dump /share/ours.dump || fail "what they leave differs"
say "equal: $(wc -l < /share/ours.dump) lines"
open_connection one
stop; start ours "--v=4"; alive two; traffic takeover; dump takeover
diff /share/upstream.dump /share/takeover.dump || fail "ours after upstream differs"
say "ours takes over, the connection lives"
# The pod of the open connection leaves: no new connection there, the old one stays until it ends.
pod=$(conntrack -L -p tcp --dport 90 2>/dev/null | grep ESTABLISHED | sed 's/.*src=\(10.244.0.1[12]\) .*/\1/' | head -1)
other=10.244.0.11; [ "$pod" = 10.244.0.11 ] && other=10.244.0.12
endpoints plain PUT $other
until_true 20 sh -c "ipvsadm -Sn | grep -q -- '-t 10.96.0.10:90 -r $pod:9000 -m -w 0'" || fail "the real server does not drain: $(ipvsadm -Ln)"
alive three; say "a real server with a connection drains"
until_true 5 sh -c "! ipvsadm -Sn | grep -q -- '-t 10.96.0.10:80 -r $pod:8080'" || fail "one without a connection stays"
exec 3>&-
until_true 200 sh -c "! ipvsadm -Sn | grep -q -- '-t 10.96.0.10:90 -r $pod:9000'" || fail "it stays after its last connection"
say "it is deleted after the last"
iptables -t nat -F KUBE-SERVICES; iptables -t nat -F PREROUTING; ipvsadm -D -t 10.96.0.10:80
until_true 25 sh -c "iptables -t nat -S PREROUTING | grep -q KUBE-SERVICES && ipvsadm -Sn | grep -q '10.96.0.10:80 '" || fail "flushed rules stay away"
say "flushed rules are back"
stop; start upstream; traffic "upstream after ours"; stop; say "upstream takes over"
