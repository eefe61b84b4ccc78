#!/usr/bin/env bash
# Renews hack/data/flags/*.txt (one line per flag of each upstream daemon) and hack/data/flags/feature-gates.txt.
# Needs Go and the module recipe that the reference build leaves in $REF/src (go.mod, go.sum).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); REF=${REF:-$HOME/.cache/corten/upstream}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cp "$REF/src/go.mod" "$REF/src/go.sum" "$here/main.go" "$work/"
mkdir -p "$here/../data/flags"
cd "$work" && GOFLAGS=-mod=mod go run -ldflags "-X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" . "$here/../data/flags" "$REF/bin"
