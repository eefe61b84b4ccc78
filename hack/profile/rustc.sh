#!/usr/bin/env bash
# RUSTC_WRAPPER of the release build: gives each crate of the workspace the hash that stands in `crates`. Cargo makes that hash
# from a crate's dependencies, and the names of all symbols contain it: with every new dependency, nothing that was recorded
# would have the name of what is built. Registry crates, which are compiled by absolute paths, keep theirs.
#
# Programs are linked to fixed addresses, as upstream's are: else the loader writes addresses into 1 MiB of constants of each,
# which is then memory of its own that the kernel cannot drop. SYMBOL_ORDER names the file with the order of their functions.
set -euo pipefail
name= kind= ours= at=
args=("$@")
for ((i = 1; i < $#; i++)); do
  case ${args[i]} in
    --crate-name) name=${args[i + 1]} ;;
    --crate-type) kind=${args[i + 1]} ;;
    metadata=*) at=$i ;;
    /*.rs) ;;
    *.rs) ours=1 ;;
  esac
done
if [[ -n $ours && -n $at ]]; then
  hash=$(awk -v n="$name" -v k="$kind" '$1 == n && $2 == k {print $3}' "$(dirname "$0")/crates")
  [[ -z $hash ]] || args[at]=metadata=$hash
  [[ $kind != bin ]] || args+=(-Clink-arg=-no-pie)
  if [[ $kind = bin && -n ${SYMBOL_ORDER:-} ]]; then
    order=${SYMBOL_ORDER%.txt}-$name.txt
    [[ -f $order ]] || order=$SYMBOL_ORDER
    args+=(-Clink-arg=-Wl,--symbol-ordering-file="$order" -Clink-arg=-Wl,--no-warn-symbol-ordering)
  fi
fi
exec "${args[@]}"
