#!/usr/bin/env bash
# Commands, terminals and ports over WebSockets, as kubectl asks for them, on a cluster that runs.
#
#   CORTEN_DIR=/var/tmp/c cluster up --isolated; CORTEN_DIR=/var/tmp/c [KUBE_APISERVER=...] [KUBELET=...] e2e/streams.sh
# With KUBE_APISERVER or KUBELET that daemon is exchanged first, so that each can be ours or upstream's. Exits 1 if a check
# fails, among them: that kubectl fell back to SPDY, and that a killed client leaves a connection or a command behind.
set -uo pipefail
. "$(dirname "$(readlink -f "$0")")/running-lib.sh"
failed=0 work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export KUBECTL=${KUBECTL:-kubectl}
check() { local what=$1; shift; if "$@"; then echo "ok      $what"; else echo "FAILED  $what"; failed=1; fi; }
is() { [ "$1" = "$2" ] || { echo "        \"$1\" is not \"$2\""; false; }; }
quick() { timeout 120 nsenter --net="/run/netns/$name" "$KUBECTL" "$@"; }

[ -z "${KUBE_APISERVER:-}" ] || { restart kube-apiserver "$KUBE_APISERVER"; wait_until kubectl get --raw /readyz; }
[ -z "${KUBELET:-}" ] || restart kubelet "$KUBELET"
wait_until kubectl wait --for=condition=Ready node/node1 --timeout=1s
sleep 12 # until the kubelet has told what it can
echo "declared: $(kubectl get node node1 -o jsonpath='{.status.declaredFeatures}')"
kubectl delete pod talks echoes --now --ignore-not-found > /dev/null 2>&1
kubectl apply -f - > /dev/null <<'P'
apiVersion: v1
kind: Pod
metadata: {name: talks}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "corten.local/busybox:1", command: [sh, -c, "mkdir /www; head -c 3000000 /dev/urandom > /www/big; exec httpd -f -p 8080 -h /www"]}
---
apiVersion: v1
kind: Pod
metadata: {name: echoes}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "corten.local/busybox:1", stdin: true, command: [sh, -c, "while read line; do echo got $line; done; sleep 1000"]}
P
wait_until kubectl wait --for=condition=Ready pod/talks pod/echoes --timeout=1s

head -c 100000 /dev/urandom > "$work/small"; head -c 12000000 /dev/urandom > "$work/big"
counted() { is "$(quick exec -i talks -- sh -c 'cat | wc -c' < "$1" | tr -d ' ')" "$2"; }
check "100 kB of input end" counted "$work/small" 100000
check "12 MB of input end" counted "$work/big" 12000000
back() { quick exec -i talks -- cat < "$work/big" | cmp - "$work/big"; }
check "12 MB there and back" back
unread() { is "$(quick exec -i talks -- head -c 5 < "$work/big" | wc -c)" 5; }
check "input that is not read to its end" unread
codes() { quick exec talks -- sh -c 'exit 7' 2> "$work/err"; is $? 7; }
check "exit codes" codes
outputs() { quick exec talks -- sh -c 'echo out; echo err >&2' > "$work/out" 2> "$work/err"; is "$(cat "$work/out")-$(cat "$work/err")" out-err; }
check "two outputs" outputs
missing() { quick exec talks -- /no/such > "$work/out" 2>&1; [ $? -ne 0 ] && grep -q 'no such file' "$work/out"; }
check "a command that there is not" missing
many() { local i; for i in $(seq 20); do (is "$(quick exec talks -- echo "$i")" "$i" || touch "$work/wrong") & done; wait; [ ! -e "$work/wrong" ]; }
check "20 at once" many
websocket() { quick exec -v=9 talks -- true > "$work/log" 2>&1; grep -q 'The protocol is "v5.channel.k8s.io"\|subprotocol.*v5.channel\|Sec-Websocket-Protocol.*v5.channel' "$work/log" && ! grep -qi 'fallback\|falling back' "$work/log"; }
check "it was a WebSocket" websocket

# A terminal of 40 by 100, then of 50 by 120.
cat > "$work/terminal.py" <<'P'
import fcntl, os, pty, re, select, signal, struct, sys, termios, time
def size(rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
pid, fd = pty.fork()
if pid == 0: time.sleep(0.5); os.execvp(sys.argv[1], sys.argv[1:])
seen, resized, end = b"", False, time.time() + 60
size(40, 100)
os.write(fd, b"")
def expect(text):
    global seen
    while text not in seen and time.time() < end:
        if select.select([fd], [], [], 1)[0]:
            try: part = os.read(fd, 4096)
            except OSError: break
            if not part: break
            seen += part
    if text not in seen: print("no", text, "in", seen); sys.exit(1)
time.sleep(3)
os.write(fd, b"stty size\n"); expect(b"40 100")
size(50, 120); os.kill(pid, signal.SIGWINCH); time.sleep(2)
os.write(fd, b"stty size\n"); expect(b"50 120")
os.write(fd, b"exit 3\n")
_, status = os.waitpid(pid, 0)
sys.exit(0 if os.WEXITSTATUS(status) == 3 else 1)
P
terminal() { timeout 100 nsenter --net="/run/netns/$name" python3 "$work/terminal.py" "$KUBECTL" exec -it talks -- sh; }
check "a terminal, its sizes and its end" terminal

attached() {
  (sleep 2; echo one; sleep 3) | timeout 60 nsenter --net="/run/netns/$name" "$KUBECTL" attach -i echoes > "$work/out" 2>&1
  grep -q 'got one' "$work/out"
}
check "attach" attached

forward() {
  local i pid ok=0
  nsenter --net="/run/netns/$name" "$KUBECTL" port-forward -v=6 pod/talks 18080:8080 > "$work/forward" 2>&1 & pid=$!
  wait_until grep -q Forwarding "$work/forward"
  quick exec talks -- cat /www/big > "$work/want"
  for i in $(seq 12); do (inside curl -s -m 60 http://127.0.0.1:18080/big | cmp - "$work/want" || touch "$work/wrong") & done
  for i in $(seq 12); do wait -n; done
  [ ! -e "$work/wrong" ] || ok=1
  is "$(inside curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:18080/none)" 404 || ok=1
  kill "$pid"; wait "$pid" 2> /dev/null
  grep -qi 'fallback\|falling back' "$work/forward" && ok=1
  return $ok
}
rm -f "$work/wrong"
check "ports, 12 connections at once" forward
closed() {
  local pid
  nsenter --net="/run/netns/$name" "$KUBECTL" port-forward pod/talks 18081:9 > "$work/forward" 2>&1 & pid=$!
  wait_until grep -q Forwarding "$work/forward"
  inside curl -s -m 10 http://127.0.0.1:18081/; local code=$?
  kill "$pid"; wait "$pid" 2> /dev/null
  [ $code -ne 0 ]
}
check "a port that nobody listens on" closed

# What a client that is killed leaves: its connections, and a command that waits for input.
connections() { inside ss -Htn state established "( sport = :10250 or sport = :6443 )" | wc -l; }
cats() { [ "$(quick exec talks -- sh -c 'ps | grep -c "[ ]cat$"' | tr -d ' ')" = "$1" ]; }
clients() {
  local i pids=() before
  before=$(connections)
  for i in 1 2 3 4 5; do
    # Its input stays open for as long as it lives.
    nsenter --net="/run/netns/$name" "$KUBECTL" exec -i talks -- cat < "$work/open" > /dev/null 2>&1 & pids+=($!)
    nsenter --net="/run/netns/$name" "$KUBECTL" port-forward pod/talks "$((18090 + i)):8080" > /dev/null 2>&1 & pids+=($!)
  done
  wait_until cats 5 || { kill -9 "${pids[@]}"; return 1; }
  sleep 2; kill -9 "${pids[@]}"; wait "${pids[@]}" 2> /dev/null
  wait_until cats 0 || return 1
  for i in $(seq 50); do [ "$(connections)" -gt "$before" ] || return 0; sleep 0.5; done
  echo "        $(connections) connections, $before before"; return 1
}
mkfifo "$work/open"; exec 8<> "$work/open"
check "killed clients leave nothing" clients
echo "counted:"
kubectl get --raw /api/v1/nodes/node1/proxy/metrics | grep '^kubelet_websocket_streaming'
kubectl get --raw /metrics | grep -E '^apiserver_(websocket_streaming|stream_t)'
exit $failed
