#!/usr/bin/env bash
# Runs the fuzz targets (fuzz/), each FUZZ_SECONDS long, all of them or those named, FUZZ_JOBS at a time (one per
# processor). One input may take FUZZ_TIMEOUT seconds by the clock: more where the machine has other work. What libFuzzer
# finds is left in target/fuzz/findings. No nightly compiler is needed: the instrumentation is a code generation option.
# `hack/fuzz.sh --check` only looks whether the targets compile.
set -euo pipefail
cd "$(dirname "$0")/.."
# The workspace's versions, so that what is fuzzed is what runs; fuzz/Cargo.toml pins the two crates that only it needs.
cp Cargo.lock fuzz/Cargo.lock
seconds=${FUZZ_SECONDS:-300}
out=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
if [[ ${1:-} = --check ]]; then
  RUSTFLAGS="--cfg fuzzing" CARGO_TARGET_DIR=$out/check exec cargo check -q --manifest-path fuzz/Cargo.toml
fi
host=$(rustc -vV | sed -n 's/^host: //p')
cargo run --locked -q -p xtask -- fuzz-seeds "$out/seeds"
# The expressions' target needs none of the daemons.
features=()
[[ "$*" != cel ]] || features=(--no-default-features)
# `--target` keeps build scripts and macros free of instrumentation.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares" \
  CARGO_TARGET_DIR=$out/build cargo build --release --manifest-path fuzz/Cargo.toml --target "$host" "${features[@]}"
run=$out/build/$host/release/fuzz
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || mapfile -t targets < <("$run")
# One target; its name is printed when it failed.
fuzz() {
  local target=$1
  mkdir -p "$out/corpus/$target" "$out/findings/$target" "$out/seeds/$target"
  FUZZ_TARGET=$target "$run" "$out/corpus/$target" "$out/seeds/$target" -max_total_time="$seconds" \
    -timeout="${FUZZ_TIMEOUT:-10}" -rss_limit_mb=2048 -max_len=65536 -artifact_prefix="$out/findings/$target/" -print_final_stats=1 \
    >"$out/$target.log" 2>&1 || echo "$target" >>"$out/failed"
  # In one write: others end at the same time.
  printf '== %s\n%s\n' "$target" "$(grep -E 'stat::number_of_executed_units|SUMMARY|panicked' "$out/$target.log" || true)"
}
export -f fuzz; export out run seconds
rm -f "$out/failed"
printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_JOBS:-$(nproc)}" -I{} bash -c 'fuzz {}'
[[ ! -f $out/failed ]] || { echo "failed: $(tr '\n' ' ' <"$out/failed")see $out"; exit 1; }
