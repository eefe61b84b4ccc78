#!/usr/bin/env bash
# Records what the daemons execute, for the release build (hack/profile/README.md): instrumented daemons run the seed flow on
# both stores and carry some load; then daemons as they are released rest, are looked at by kubectl, and start.
# Rewrites daemons.profdata.gz and order.txt.gz beside this script. Root, as `make up`.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${PROFILE_DIR:-$PWD/target/profile} here=$PWD/hack/profile
tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
[[ -x $tools/llvm-profdata ]] || rustup component add llvm-tools
raw=$work/raw instrumented=$work/target/release
mkdir -p "$raw"
LLVM_PROFILE_FILE=/dev/null RUSTC_WRAPPER=$here/rustc.sh RUSTFLAGS="$(cat "$here/flags") -Cprofile-generate=$raw" \
  CARGO_TARGET_DIR=$work/target cargo build --release --locked --bins
rm -f "$raw"/*
export PATIENCE=${PATIENCE:-3} KUBECTL=${KUBECTL:-$(hack/kubectl.sh | tail -1)} CORTEN_DIR=/var/tmp/profiled
kubectl="ip netns exec $(basename $CORTEN_DIR) $KUBECTL --kubeconfig $CORTEN_DIR/kubernetes/admin.conf"
k() { $kubectl "$@"; }
up() { # The isolated cluster of the daemons in folder $1, with the sample.
  trap "'$1/cluster' smoke clean" EXIT
  "$1/cluster" up --isolated
  k apply -f e2e/manifests/sample.yaml
  k rollout status deployment/web --timeout=300s
}
clean() { trap - EXIT; "$1/cluster" smoke clean; }

for store in embedded etcd; do
  LLVM_PROFILE_FILE=$raw/flow-%p.profraw STORE=$store "$instrumented/cluster" smoke
done
export LLVM_PROFILE_FILE=$raw/load-%p.profraw
up "$instrumented"
hack/profile/load.sh "$kubectl"
clean "$instrumented"
"$tools/llvm-profdata" merge -sparse -o "$work/daemons.profdata" "$raw"/*.profraw
gzip -9nc "$work/daemons.profdata" > "$here/daemons.profdata.gz"

# What is executed when is asked of the released code, which is inlined differently.
hack/release.sh --bins
released=${CARGO_TARGET_DIR:-$PWD/target}/release
daemons="kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy"
executed() { # NAME SECONDS: what every daemon executes, as NAME-DAEMON.txt
  local daemon pid
  for daemon in $daemons; do
    pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$CORTEN_DIR/run/$daemon.json")
    hack/profile/executed.py "$pid" "$2" > "$work/$1-$daemon.txt" &
  done
}
up "$released"
sleep 60
executed rest "${REST_SECONDS:-150}"
wait
executed use 30
sleep 10
for what in pods nodes deployments,services,configmaps; do k get $what -A -o wide; k get $what -A -o yaml; done >/dev/null
k describe pods >/dev/null
wait
clean "$released"

# From their first instruction on.
traced=$work/traced
mkdir -p "$traced"
rm -f "$work"/all-*.txt
cp "$released/cluster" "$traced"
for daemon in $daemons; do
  printf '#!/bin/bash\nexec %q --all %q %q "$@"\n' "$here/executed.py" "$work/all-$daemon.txt" "$released/$daemon" > "$traced/$daemon"
  chmod +x "$traced/$daemon"
done
# No more than a start: traced API servers were seen to end when clients came.
trap "'$traced/cluster' smoke clean" EXIT
"$traced/cluster" up --isolated
clean "$traced"
PROFDATA=$tools/llvm-profdata hack/profile/order.py "$work" > "$work/order.txt"
gzip -9nc "$work/order.txt" > "$here/order.txt.gz"
hack/profile/kubelet.sh "$released"
