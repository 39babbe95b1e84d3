#!/usr/bin/env bash
# Measures the accuracy tables of docs/results.md: lab-llama and two variants of it with outlier channels, every format of
# the QQQ work, both texts, integer engine. Needs the folder of models, data and tools (TESSERA_SHARED, or ../shared) and
# python3 with numpy for the variants. Usage: [WINDOWS=N] scripts/results.sh [WORK_DIR]; WINDOWS is how many windows of
# 1024 tokens of each text are scored (default 64; 1000 scores the whole texts and takes about an hour on two cores).
set -euo pipefail
cd "$(dirname "$0")/.."
shared=${TESSERA_SHARED:-../shared}
work=${1:-out/results}
tessera=build/release/tessera/cli/tessera
[ -d "$shared/models/lab-llama" ] || { echo "$shared/models/lab-llama is missing; set TESSERA_SHARED" >&2; exit 2; }
mkdir -p "$work"

# name and quantize options of each row; rounding to nearest learns nothing from its calibration windows
few="--windows 8 --tokens 512" many="--windows 64 --tokens 512"
formats=(
  "w8a8-rtn --method rtn --bits 8 $few"
  "w4a8-rtn-pc --method rtn $few"
  "w4a8-rtn-g128 --method rtn --group-size 128 $few"
  "qqq-pc --method qqq $many"
  "qqq-g128 --method qqq --group-size 128 $many"
  "qqq-rotation-pc --method qqq-rotation $many"
  "qqq-rotation-g128 --method qqq-rotation --group-size 128 $many"
)

make_variant() {
  local name=$1
  shift
  [ -d "$work/$name" ] || python3 "$shared/tools/inject_outliers.py" "$shared/models/lab-llama" "$work/$name" "$@"
}

measure() {
  local name=$1 model=$2 quantized=()
  for entry in "${formats[@]}"; do
    read -r format options <<<"$entry"
    local out="$work/$name-$format"
    # shellcheck disable=SC2086
    [ -d "$out" ] || "$tessera" quantize "$model" $options --calib "$shared/data/calib.txt" -o "$out" >&2
    quantized+=("$out")
  done
  for text in heldout.txt wikitext-2/test.txt; do
    printf '\n### %s, %s\n\n' "$name" "$text"
    "$tessera" compare "$model" "${quantized[@]}" --text "$shared/data/$text" --max-windows "${WINDOWS:-64}" --markdown
  done
}

make_variant lab-llama-outliers-16-32 --min 16 --max 32
make_variant lab-llama-outliers-20-100
{
  measure lab-llama "$shared/models/lab-llama"
  measure lab-llama-outliers-16-32 "$work/lab-llama-outliers-16-32"
  measure lab-llama-outliers-20-100 "$work/lab-llama-outliers-20-100"
} | tee "$work/tables.md"
