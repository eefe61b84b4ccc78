#!/usr/bin/env bash
# The test binaries that hold property tests, COUNT times, each time with another seed: soak.sh COUNT
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t crates < <(grep -rl --include=*.rs 'proptest!\|proptest::test_runner' apiserver controller-manager kube-proxy kubelet pkg scheduler \
  | while read -r file; do
      dir=$(dirname "$file")
      while [ ! -f "$dir/Cargo.toml" ]; do dir=$(dirname "$dir"); done
      sed -n 's/^name = "\(.*\)"/\1/p' "$dir/Cargo.toml" | head -1
    done | sort -u)
packages=()
for crate in "${crates[@]}"; do packages+=(-p "$crate"); done
for ((run = 1; run <= $1; run++)); do
  seed=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
  echo "run $run of $1: make unit SEED=$seed"
  PROPTEST_RNG_SEED=$seed cargo test --locked --tests "${packages[@]}" --quiet
done
