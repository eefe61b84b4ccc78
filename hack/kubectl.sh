#!/usr/bin/env bash
# Prints the path of a kubectl: $KUBECTL, the one on PATH, one built from its Go module, or Debian's.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "${KUBECTL:-}" ]; then echo "$KUBECTL"; exit; fi
if command -v kubectl; then exit; fi
cache=${CORTEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten/upstream}
if [ -x "$cache/kubectl" ]; then echo "$cache/kubectl"; exit; fi
if command -v go >/dev/null && go version | awk '{split(substr($3,3),v,"."); exit !(v[1]>1 || v[2]>=26)}'; then
  "$here/hack/upstream.sh" "$cache" kubectl >&2
  echo "$cache/kubectl"; exit
fi
echo "installing Debian's kubernetes-client" >&2
apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends kubernetes-client >&2
command -v kubectl
