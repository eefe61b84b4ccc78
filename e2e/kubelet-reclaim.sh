#!/usr/bin/env bash
# What a kubelet removes before it evicts a pod for want of disk: ours, then upstream's, and where their words differ.
#
#   BIN=target/release UPSTREAM=~/.cache/corten/upstream CORTEN_DIR=/var/tmp/reclaim e2e/kubelet-reclaim.sh
# The cluster lies on a file system of its own (SIZE). On it are two pods that have ended and left 300 MiB in their containers
# each, an image of 300 MiB that nobody uses, and a pod that runs. With the second of them less is available than has to be, and
# both containers and the image are removed; a pod that then writes as much is evicted. Exits 1 if something else happens or a
# line differs.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/running-lib.sh"
bin=${BIN:?folder of cluster and the daemons} out=${OUT:-$dir-results} failed=0
mkdir -p "$out" "$dir"
image=corten.local/busybox:1
check() { local what=$1; shift; if wait_until "$@"; then echo "ok      $what"; else echo "FAILED  $what"; failed=1; fi; }
phase_is() { [ "$(kubectl get pod "$1" -o jsonpath='{.status.phase}')" = "$2" ]; }
has_events() { kubectl get events --field-selector "reason=$1" -o name | grep -q .; }
has_container() { ctr containers list | grep -qF "$(kubectl get pod "$1" -o jsonpath='{.status.containerStatuses[0].containerID}' | sed 's#.*/##')"; }
has_image() { ctr images list -q | grep -q '^corten.local/large:1$'; }
not() { ! "$@"; }
healthy() { inside curl -fsk "http://127.0.0.1:10248/healthz"; }
available() { df --output=avail -B1 "$dir" | tail -1; }

# An image of one layer that does not compress.
large_image() {
  local at=$dir/large config; mkdir -p "$at"; cd "$at" || exit 1
  head -c 300M /dev/urandom > fill; tar cf layer.tar fill
  config='{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:'$(sha256sum layer.tar | cut -d' ' -f1)'"]}}'
  printf '%s' "$config" > config.json
  echo '[{"Config":"config.json","RepoTags":["corten.local/large:1"],"Layers":["layer.tar"]}]' > manifest.json
  tar cf image.tar config.json layer.tar manifest.json
  ctr images import image.tar > /dev/null
  cd - > /dev/null || exit 1; rm -rf "$at"
}

fills() { # name, MiB, what follows
  kubectl run "$1" --image=$image --restart=Never -- sh -c "dd if=/dev/urandom of=/fill bs=1M count=$2; $3" > /dev/null
}

# What is told of pods and the node; amounts differ from run to run.
told() {
  { kubectl get pods -o jsonpath='{range .items[*]}{.metadata.name}|{.status.phase}|{.status.reason}|{.status.message}|{.status.conditions[?(@.type=="DisruptionTarget")].reason}{"\n"}{end}'
    kubectl get events -o jsonpath='{range .items[*]}{.involvedObject.kind} {.type} {.reason}: {.message} {.metadata.annotations}{"\n"}{end}' |
      grep -E ' (Evicted|EvictionThresholdMet|FreeDiskSpaceFailed|ImageGCFailed|ContainerGCFailed|NodeHasDiskPressure|NodeHasNoDiskPressure): '
  } | sed -E 's/[0-9]+([KMG]i)?\b/N/g' | sort -u
}

one_side() {
  local side=$1 least
  mount -o loop "$out/disk" "$dir" || exit 1
  KEEP=1 KUBELET=$2 "$bin/cluster" smoke > "$out/$side.log" 2>&1 || { tail -20 "$out/$side.log"; exit 1; }
  kubectl delete deployments,pods --all --force --grace-period=0 > /dev/null 2>&1
  echo "== $side"
  ctr images export "$dir/pause.tar" corten.local/pause:1
  kubectl run beside --image=$image -- sleep 1000000 > /dev/null; fills ended 300 true; large_image
  check "a pod that runs" phase_is beside Running
  check "a pod that has ended" phase_is ended Succeeded
  check "its container and an image are there" eval "has_container ended && has_image"
  sync; least=$(($(available) - (150 << 20)))
  MORE="--eviction-hard=nodefs.available<$least --eviction-pressure-transition-period=5s --image-gc-high-threshold=100
    --minimum-image-ttl-duration=0s --fail-swap-on=false" restart kubelet
  check "the kubelet looks" healthy
  fills more 300 true
  check "the threshold is met" has_events EvictionThresholdMet
  check "the image is removed" not has_image
  check "the containers are removed" eval "not has_container ended && not has_container more"
  # To the kubelet the image of sandboxes is one like others, if the runtime does not pin it.
  ctr images import "$dir/pause.tar" > /dev/null
  check "the node is well again" has_events NodeHasNoDiskPressure
  check "nobody was evicted" not has_events Evicted
  fills hog 1200 "sleep 1000000"; check "a pod that writes" phase_is hog Running
  check "it is evicted" phase_is hog Failed
  check "the pod beside it runs" phase_is beside Running
  check "those that had ended still have" eval "phase_is ended Succeeded && phase_is more Succeeded"
  echo "restarts of the pod beside it: $(kubectl get pod beside -o jsonpath='{.status.containerStatuses[0].restartCount}')"
  told > "$out/$side"; cp "$dir/log/kubelet.log" "$out/$side.kubelet.log"
  "$bin/cluster" smoke clean > /dev/null 2>&1
  umount -R "$dir"
}
truncate -s "${SIZE:-8G}" "$out/disk"; mkfs.ext4 -q -F "$out/disk"
one_side ours "${OURS:-$bin/kubelet}"
if [ -n "${UPSTREAM:-}" ]; then
  mkfs.ext4 -q -F "$out/disk"
  one_side upstream "$UPSTREAM/kubelet"
  echo "== what differs: ours <, upstream's >"
  diff "$out/ours" "$out/upstream" && echo nothing || failed=1
fi
rm -f "$out/disk"
exit $failed
