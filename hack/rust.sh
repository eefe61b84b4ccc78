#!/usr/bin/env bash
# Says how to get the Rust toolchain named in rust-toolchain.toml; a machine without one cannot build.
set -euo pipefail
wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$(dirname "$0")/../rust-toolchain.toml")
if command -v rustup >/dev/null; then exec rustup toolchain install "$wanted"; fi
echo "there is no Rust toolchain: install Debian's rustup package (apt-get install rustup), or Rust $wanted by other means" >&2
exit 1
