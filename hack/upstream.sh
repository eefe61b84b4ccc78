#!/usr/bin/env bash
# Builds upstream's v1.37.2 programs from their Go modules into a folder: hack/upstream.sh FOLDER PROGRAM...
# They are what our daemons are compared with, never part of the product. What is there already is kept.
set -euo pipefail
out=$1; shift
version=1.37.2
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
for p in "${missing[@]}"; do
  echo "building upstream's $p"
  go build -ldflags "-s -w $v" -o "$out/$p" "k8s.io/kubernetes/cmd/$p"
done
