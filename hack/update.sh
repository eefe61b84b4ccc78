#!/bin/bash
# make update: rewrites the committed data that comes from upstream's Go modules. Needs Go and the module proxy.
set -euo pipefail
cd "$(dirname "$0")"
version=${KUBERNETES_VERSION:-v1.37.2}
staging=v0${version#v1}
cd typetable
awk '!/^#/ && NF {print $2}' packages.txt | sort -u | while read -r module; do
  case $module in
    k8s.io/kubernetes) v=$version ;;
    *) v=$staging ;;
  esac
  go mod download "$module@$v"
done
go run . "$(go env GOMODCACHE)" "$version" < packages.txt > ../../pkg/api/data/types.txt.new
mv ../../pkg/api/data/types.txt.new ../../pkg/api/data/types.txt
