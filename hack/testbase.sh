#!/usr/bin/env bash
# What the conformance suite's images are made of besides programs, into a folder: base.tar (a small Debian with the tools
# its specs call) and the files of upstream's images. hack/testbase.sh FOLDER. What is there already is kept.
set -euo pipefail
out=$1; version=1.37.2
mkdir -p "$out/files"
if [ ! -f "$out/base.tar" ]; then
  command -v debootstrap >/dev/null || { echo "there is no debootstrap on this machine (apt-get install debootstrap)" >&2; exit 1; }
  tree=$(mktemp -d); trap 'rm -rf "$tree"' EXIT
  tools=curl,wget,dnsutils,netcat-openbsd,iproute2,iperf,bash,socat,nginx-light,stress,iptables
  debootstrap --variant=minbase --include=$tools bookworm "$tree" > "$out/base.log" 2>&1 ||
    { echo "debootstrap failed; its last lines:" >&2; tail -5 "$out/base.log" >&2; exit 1; }
  tar --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./usr/share/doc --exclude=./usr/share/locale \
    --exclude='./dev/*' -C "$tree" -cf "$out/base.partial" .
  cp "$tree/etc/passwd" "$tree/etc/group" "$out/files/"
  mv "$out/base.partial" "$out/base.tar"
fi
images=$(go env GOMODCACHE)/k8s.io/kubernetes@v$version/test/images
cp -f "$images"/agnhost/porter/localhost.{crt,key} "$images/kitten/html/kitten.jpg" "$images/nautilus/html/nautilus.jpg" "$out/files/"
for name in kitten nautilus; do cp -f "$images/$name/html/data.json" "$out/files/$name.json"; done
chmod -R u+w "$out/files"
