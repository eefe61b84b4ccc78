#!/usr/bin/env bash
# Builds upstream's v1.37.2 programs from their Go modules into a folder: hack/upstream.sh FOLDER PROGRAM...
# They are what our daemons are compared with and judged by, never part of the product. What is there already is kept.
# Besides the daemons, kubectl and kubectl-convert: e2e.test and ginkgo (the conformance suite), e2e_node.test (the node suite), the programs inside its images (agnhost,
# nnp, consumer, consume-cpu, sample-apiserver, sampledeviceplugin, coredns, etcd, etcdctl); etcdutl restores etcd's snapshots;
# containerd, containerd-shim-runc-v2 and ctr, of a later version than Debian's.
set -euo pipefail
out=$1; shift
version=1.37.2; etcd=3.7.3; coredns=1.15.0; containerd=2.4.2
mkdir -p "$out"; out=$(cd "$out" && pwd)
missing=()
for p in "$@"; do [ -x "$out/$p" ] || missing+=("$p"); done
[ ${#missing[@]} -gt 0 ] || exit 0
command -v go >/dev/null || { echo "building ${missing[*]} takes Go 1.26 or newer, which is not installed" >&2; exit 1; }
src=$out/src; mkdir -p "$src"; cd "$src"
export GOFLAGS=-mod=mod
go mod download "k8s.io/kubernetes@v$version"
module=$(go env GOMODCACHE)/k8s.io/kubernetes@v$version
if [ ! -f go.mod ]; then
  # The published module points at its staging folders, which the published zip lacks: replace each by its own module.
  staging=$(awk '/=> \.\/staging/ {print $1}' "$module/go.mod")
  {
    echo "module reference"; echo; echo "go 1.26.0"; echo; echo "require k8s.io/kubernetes v$version"
    awk '/^require \(/ {on=1; next} /^\)/ {on=0} on && $2 != "v0.0.0" {print "require " $1 " " $2}' "$module/go.mod"
    for m in $staging; do echo "require $m v0.${version#1.}"; echo "replace $m => $m v0.${version#1.}"; done
  } > go.mod
  cp "$module/go.sum" go.sum; chmod u+w go.sum
fi
v="-X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
build() { go build -ldflags "-s -w $v" -o "$out/$1" "$2"; }
static() { CGO_ENABLED=0 build "$@"; }
# A program of a module with requirements of its own: PROGRAM MODULE@VERSION PACKAGE.
other() {
  mkdir -p "$src/$1"; cd "$src/$1"
  [ -f go.mod ] || { go mod init "$1"; go get "$2"; }
  CGO_ENABLED=0 go build -ldflags "-s -w" -o "$out/$1" "$3"
  cd "$src"
}
for p in "${missing[@]}"; do
  echo "building upstream's $p"
  case $p in
    kube-*|kubelet|kubectl|kubectl-convert) build "$p" "k8s.io/kubernetes/cmd/$p" ;;
    e2e.test|e2e_node.test) go test -vet=off -c -o "$out/$p" "k8s.io/kubernetes/test/${p%.test}" ;;
    ginkgo) build "$p" github.com/onsi/ginkgo/v2/ginkgo ;;
    agnhost) static "$p" k8s.io/kubernetes/test/images/agnhost ;;
    nnp) static "$p" k8s.io/kubernetes/test/images/nonewprivs ;;
    consumer) static "$p" k8s.io/kubernetes/test/images/resource-consumer ;;
    consume-cpu) static "$p" k8s.io/kubernetes/test/images/resource-consumer/consume-cpu ;;
    sampledeviceplugin) static "$p" k8s.io/kubernetes/test/images/sample-device-plugin ;;
    sample-apiserver) static "$p" k8s.io/sample-apiserver ;;
    etcdctl|etcdutl) other "$p" "go.etcd.io/etcd/$p/v3@v$etcd" "go.etcd.io/etcd/$p/v3" ;;
    containerd|containerd-shim-runc-v2|ctr)
      other "$p" "github.com/containerd/containerd/v2@v$containerd" "github.com/containerd/containerd/v2/cmd/$p" ;;
    coredns) other "$p" "github.com/coredns/coredns@v$coredns" github.com/coredns/coredns ;;
    etcd)
      mkdir -p "$src/etcd"
      printf 'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n' > "$src/etcd/main.go"
      other "$p" "go.etcd.io/etcd/server/v3@v$etcd" . ;;
    *) echo "$p is no program of upstream's that is known here" >&2; exit 1 ;;
  esac
done
