#!/usr/bin/env bash
# Upstream's kubectl scripts (test/cmd/*.sh, as hack/make-rules/test-cmd.sh runs them) against our API server and against
# upstream's, with upstream's kubectl, controller manager and etcd: kubectl-scripts.sh OURS UPSTREAM OUT [WHAT...]
# OURS is a kube-apiserver, UPSTREAM the folder of upstream's programs. Prints a row per function; fails when one passes
# with upstream's server and not with ours. WHAT are functions without run_ and _tests; SIDES chooses "upstream ours".
# The scripts are upstream's own, unchanged. Each side has its own network, processes, /tmp and /var/tmp; OUT/SIDE/log says all.
set -euo pipefail
ours=$(realpath "$1") upstream=$(realpath "$2"); mkdir -p "$3"; out=$(realpath "$3"); shift 3
sides=${SIDES:-upstream ours} limit=${LIMIT:-3000}
module=$(go env GOMODCACHE)/k8s.io/kubernetes@v1.37.2

# No symbolic links: what they would lead to is hidden if it lies in /tmp or /var/tmp.
place() { ln -f "$1" "$2" 2>/dev/null || cp "$1" "$2"; }

# What the scripts read, and where they look for programs; nothing is compiled, so `make` has nothing to do.
lay_out() {
  local root=$1 server=$2 p
  rm -rf "$root"; mkdir -p "$root"/{tree/_output/bin,tree/test/e2e,stub,tmp,vartmp,results}
  cp -r "$module"/{hack,api,third_party,cluster} "$root/tree"; cp -r "$module"/test/{cmd,fixtures} "$root/tree/test"
  cp -r "$module/test/e2e/testing-manifests" "$root/tree/test/e2e"; chmod -R u+w "$root/tree"
  for p in kubectl kubectl-convert kube-controller-manager; do place "$upstream/$p" "$root/tree/_output/bin/$p"; done
  place "$server" "$root/tree/_output/bin/kube-apiserver"; place "$upstream/etcd" "$root/stub/etcd"
  printf '#!/bin/sh\n' > "$root/stub/make"; chmod +x "$root/stub/make"
  # The module has the scripts without their executable bits.
  find "$root/tree" \( -name '*.sh' -o -name 'kubectl-*' \) -type f -exec chmod +x {} +
}

# In the namespaces of one side.
inside() {
  # Upstream's API server wants a default route, to know which address to tell others.
  ip link set lo up; ip link add host type veth peer name other
  ip addr add 192.0.2.2/24 dev host; ip link set host up; ip link set other up
  ip route add default via 192.0.2.1
  mount --bind "$1/tmp" /tmp; mount --bind "$1/vartmp" /var/tmp; cd "$1/tree"
  # Commands do not ask whether client and server are of the same commit: they are not.
  export ALLOW_SKEW=true
  export PATH=$1/stub:$PATH TERM=xterm TMPDIR=/tmp KUBE_JUNIT_REPORT_DIR=$1/results SERVICE_ACCOUNT_KEY=/tmp/sa.key WHAT=$2
  exec hack/make-rules/test-cmd.sh
}

run() {
  local root=$out/$1 what=$2
  timeout "$limit" unshare --net --mount --pid --fork --kill-child --mount-proc \
    bash -c "$(declare -f inside); inside '$root' '$what'" > "$root/log" 2>&1 < /dev/null || true
}

# The function and its result, a line each, of upstream's report.
results() {
  local report="$out/$1/results/junit_test-cmd.xml"
  [ -f "$report" ] || return 0
  awk -F'"' '/<testcase /{name = $4; time = $6; result = "passed"}
    /^ *<failure /{result = "failed"}
    /<\/testcase>/ && name != "record_command_canary" {print name, time, result}' "$report"
}

for side in $sides; do
  if [ "$side" = ours ]; then server=$ours; else server=$upstream/kube-apiserver; fi
  lay_out "$out/$side" "$server"
  run "$side" "$*" &
done
wait
join -a 1 -a 2 -e none -o 0,1.3,2.3,1.2,2.2 <(results upstream | sort) <(results ours | sort) > "$out/table"
{ echo "function upstream ours seconds seconds"; cat "$out/table"; } | column -t
awk '{up[$2]++; our[$3]++; if ($2 == "passed" && $3 != "passed") worse++}
  END {printf "%d functions: %d pass with upstream, %d with ours, %d with upstream alone\n", NR, up["passed"], our["passed"], worse; exit worse > 0}' "$out/table"
