#!/usr/bin/env bash
# Records what the daemons execute, for the release build (hack/profile/README.md): instrumented daemons run the seed flow on
# both stores, rest, and carry some load. Rewrites daemons.profdata.gz and order.txt.gz beside this script. Root, as `make up`.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${PROFILE_DIR:-$PWD/target/profile} here=$PWD/hack/profile
tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
[[ -x $tools/llvm-profdata ]] || rustup component add llvm-tools
raw=$work/raw bin=$work/target/release
mkdir -p "$raw"
LLVM_PROFILE_FILE=/dev/null RUSTFLAGS="$(cat "$here/flags") -Cprofile-generate=$raw" CARGO_TARGET_DIR=$work/target \
  cargo build --release --locked --bins
rm -f "$raw"/*
export PATIENCE=${PATIENCE:-3} KUBECTL=${KUBECTL:-$(hack/kubectl.sh | tail -1)}

for store in embedded etcd; do
  LLVM_PROFILE_FILE=$raw/flow-%p.profraw STORE=$store "$bin/cluster" smoke
done

# At rest, then under load. Counters are written out at both ends of the rest: what grew between was executed at rest.
export CORTEN_DIR=/var/tmp/profiled
written() { # NAME: every daemon's counters so far, as NAME-DAEMON.profraw
  local daemon pid
  for daemon in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
    pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$CORTEN_DIR/run/$daemon.json")
    gdb -q -batch -p "$pid" -ex 'call (int)__llvm_profile_write_file()' >>"$work/gdb.log" 2>&1
    mv "$raw/rest-$pid.profraw" "$work/$1-$daemon.profraw"
  done
}
trap '"$bin/cluster" smoke clean' EXIT
LLVM_PROFILE_FILE=$raw/rest-%p.profraw "$bin/cluster" up --isolated
kubectl="ip netns exec $(basename $CORTEN_DIR) $KUBECTL --kubeconfig $CORTEN_DIR/kubernetes/admin.conf"
k() { $kubectl "$@"; }
k apply -f e2e/manifests/sample.yaml
k rollout status deployment/web --timeout=300s
sleep 60
written before
sleep "${REST_SECONDS:-120}"
written after
hack/profile/load.sh "$kubectl"
trap - EXIT
"$bin/cluster" smoke clean

"$tools/llvm-profdata" merge -sparse -o "$work/daemons.profdata" "$raw"/*.profraw
for f in "$work"/{before,after}-*.profraw; do
  "$tools/llvm-profdata" merge -sparse -o "${f%.profraw}.profdata" "$f"
done
PROFDATA=$tools/llvm-profdata hack/profile/order.py "$work" > "$work/order.txt"
for f in daemons.profdata order.txt; do gzip -9nc "$work/$f" > "$here/$f.gz"; done
