#!/usr/bin/env bash
# Builds with the release profile and with what was recorded of the daemons' execution (hack/profile/README.md):
# hack/release.sh ARGUMENTS-OF-CARGO-BUILD, or hack/release.sh bench ARGUMENTS-OF-CARGO-BENCH
set -euo pipefail
cd "$(dirname "$0")/.."
recorded=hack/profile
command=(build --release)
if [[ ${1:-} = bench ]]; then command=(bench); shift; fi
# Named after its content: cargo sees another path, not another file.
data=${CARGO_TARGET_DIR:-$PWD/target}/recorded/$(cat $recorded/*.gz | sha256sum | cut -c1-16)
if [[ ! -d $data ]]; then
  mkdir -p "$data.new"
  for f in daemons.profdata order.txt; do gzip -dc "$recorded/$f.gz" > "$data.new/$f"; done
  mv "$data.new" "$data"
fi
# Code that changed since has no profile; that is not worth a warning each.
profile="-Cprofile-use=$data/daemons.profdata -Cllvm-args=-no-pgo-warn-mismatch"
order="-Clink-arg=-Wl,--symbol-ordering-file=$data/order.txt -Clink-arg=-Wl,--no-warn-symbol-ordering"
RUSTC_WRAPPER=$PWD/$recorded/rustc.sh RUSTFLAGS="${RUSTFLAGS:-} $(cat $recorded/flags) $profile $order" exec cargo "${command[@]}" --locked "$@"
