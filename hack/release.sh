#!/usr/bin/env bash
# Builds with the release profile and with what was recorded of the daemons' execution (hack/profile/README.md):
# hack/release.sh ARGUMENTS-OF-CARGO-BUILD, or hack/release.sh bench ARGUMENTS-OF-CARGO-BENCH
set -euo pipefail
cd "$(dirname "$0")/.."
recorded=hack/profile
command=(build --release)
if [[ ${1:-} = bench ]]; then command=(bench); shift; fi
target=${CARGO_TARGET_DIR:-$PWD/target}
# Named after its content: cargo sees another path, not another file.
data=$target/recorded/$(sha256sum < $recorded/daemons.profdata.gz | cut -c1-16)
if [[ ! -f $data/daemons.profdata ]]; then
  mkdir -p "$data"
  gzip -dc "$recorded/daemons.profdata.gz" > "$data/unpacked"
  mv "$data/unpacked" "$data/daemons.profdata"
fi
# Only the linker looks at the order, of which cargo is not told: with another one, the programs are linked anew, nothing else.
# What was recorded of one daemon alone stands before the others' order in its own.
export SYMBOL_ORDER=$target/recorded/order.txt
order() { # FILE RECORDED...
  local to=$1
  shift
  gzip -dc "$@" | awk '!seen[$0]++' > "$to.new"
  if ! cmp -s "$to.new" "$to"; then touch ./*/src/main.rs; fi
  mv "$to.new" "$to"
}
order "$SYMBOL_ORDER" $recorded/order.txt.gz
for own in "$recorded"/order-*.txt.gz; do
  [[ ! -f $own ]] || order "$target/recorded/$(basename "$own" .gz)" "$own" $recorded/order.txt.gz
done
# Code that changed since has no profile; that is not worth a warning each.
profile="-Cprofile-use=$data/daemons.profdata -Cllvm-args=-no-pgo-warn-mismatch"
RUSTC_WRAPPER=$PWD/$recorded/rustc.sh RUSTFLAGS="${RUSTFLAGS:-} $(cat $recorded/flags) $profile" exec cargo "${command[@]}" --locked "$@"
