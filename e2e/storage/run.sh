#!/usr/bin/env bash
# Runs upstream's own storage tests (k8s.io/apiserver, packages etcd3 and cacher) on the embedded store, through its etcd
# facade: `run.sh FACADE [go test arguments]`. Needs Go. Prints each failure, and how many passed, failed, were skipped.
set -uo pipefail
facade=$(realpath "$1"); shift
cd "$(dirname "$0")"
module=$(go list -m -f '{{.Dir}}' k8s.io/apiserver) || exit 1
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
# The module with one file exchanged: files of the module cache itself cannot be overlaid.
cp -r "$module" "$work/apiserver" && chmod -R u+w "$work/apiserver"
cp testserver.go "$work/apiserver/pkg/storage/etcd3/testserver/test_server.go"
cp go.mod "$work/go.mod" && cp go.sum "$work/go.sum"
echo "replace k8s.io/apiserver => $work/apiserver" >>"$work/go.mod"
packages=${PACKAGES:-k8s.io/apiserver/pkg/storage/etcd3 k8s.io/apiserver/pkg/storage/cacher}
ETCD_FACADE=$facade go test -mod=mod -modfile="$work/go.mod" -count=1 -v "$@" $packages >"$work/log" 2>&1
result=$?
grep -aE '^\s*--- FAIL|^FAIL|^panic|build failed' "$work/log"
[ -n "${LOG:-}" ] && cp "$work/log" "$LOG"
count() { grep -ac "^--- $1" "$work/log"; }
echo "$(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped"
exit $result
