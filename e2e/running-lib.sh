# Sourced by scripts that exchange or kill daemons of a cluster that runs: $dir is its folder, $name its network namespace.
dir=${CORTEN_DIR:?the folder of a running cluster}; name=$(basename "$dir")
export KUBECONFIG=$dir/kubernetes/admin.conf
inside() { nsenter --net="/run/netns/$name" "$@"; }
kubectl() { inside "${KUBECTL:-kubectl}" "$@"; }
ctr() { command ctr -a "$dir/run/containerd.sock" -n k8s.io "$@"; }
pid_of() { sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$dir/run/$1.json"; }

# Ends a daemon at once and starts it again with the same arguments and those in MORE, as another binary if one is given.
restart() {
  local daemon=$1 binary=${2:-} pid argv path
  pid=$(pid_of "$daemon")
  mapfile -d '' argv < "/proc/$pid/cmdline"
  path=$(tr '\0' '\n' < "/proc/$pid/environ" | sed -n 's/^PATH=//p')
  [ -z "$binary" ] || argv[0]=$binary
  argv+=(${MORE:-})
  kill -9 "$pid"
  # A first thread may be gone while others still hold the ports.
  while [ -e "/proc/$pid/stat" ] && { [ "$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null)" != Z ] || [ "$(ls "/proc/$pid/task" 2>/dev/null | wc -l)" -gt 1 ]; }; do sleep 0.02; done
  PATH=$path setsid nsenter --net="/run/netns/$name" "${argv[@]}" >> "$dir/log/$daemon.log" 2>&1 < /dev/null &
  pid=$!
  disown "$pid"
  sleep 0.05
  printf '{"pid":%d,"startTicks":%d}' "$pid" "$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)" > "$dir/run/$daemon.json"
}

# Waits until what is given succeeds.
wait_until() {
  local end=$((SECONDS + 120))
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "after 120 s still not: $*"; return 1; }
    sleep 0.2
  done
}
