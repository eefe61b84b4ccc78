#!/usr/bin/env bash
# The seed flow on etcd with each daemon exchanged: one of ours among upstream's, then one of upstream's among ours.
set -uo pipefail
failed=0; passed=0
for daemon in "$@"; do
  variable=$(echo "$daemon" | tr a-z- A-Z_)
  for side in ours upstream; do
    if [ $side = ours ]; then others=$UPSTREAM one=$BIN/$daemon; else others=$BIN one=$UPSTREAM/$daemon; fi
    begin=$(date +%s); log=$(mktemp)
    if env STORE=etcd CORTEN_BIN="$others" "$variable=$one" "$BIN/cluster" smoke >"$log" 2>&1; then
      result=pass; passed=$((passed + 1))
    else
      result=FAIL; failed=$((failed + 1)); tail -40 "$log"
    fi
    printf '%-26s %-9s %s %4d s\n' "$daemon" "$side" $result $(($(date +%s) - begin)); rm -f "$log"
  done
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
