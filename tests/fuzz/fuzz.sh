#!/usr/bin/env bash
# Runs libFuzzer on targets of a tree of the preset `clang`, one after another. What it learns stays in BUILD/corpus; a find is
# left beside it as crash-*, and ends the run with status 1.
#   fuzz.sh BUILD SECONDS TARGET...      SECONDS for each; RUNS=1000000 counts executions instead
set -euo pipefail
build=$1 seconds=$2
for target in "${@:3}"; do
  corpus=$build/corpus/$target
  mkdir -p "$corpus"
  limit=-max_total_time=$seconds
  [ -n "${RUNS:-}" ] && limit=-runs=$RUNS
  # The files of the source tree begin the corpus.
  while read -r path; do
    find "$path" -type f -exec cp -n {} "$corpus/" \;
  done <"$build/tests/fuzz/$target.corpus"
  echo "== $target"
  status=0
  "$build/tests/fuzz/${target}_fuzz" "$limit" -seed=1 -timeout=10 -rss_limit_mb=4096 -max_len=100000 -print_final_stats=1 \
    -artifact_prefix="$build/$target-" "$corpus" >"$build/$target.log" 2>&1 || status=1
  grep -E 'stat::number|DONE|ERROR|SUMMARY|written to|^    #' "$build/$target.log" || true
  [ $status = 0 ] || { echo "$target: see $build/$target.log" >&2; exit 1; }
done
