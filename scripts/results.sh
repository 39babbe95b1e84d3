#!/usr/bin/env bash
# Measures the tables of docs/results.md: every method on a LLaMA and an OPT model and on variants of them with outlier
# channels, both texts, integer engine; that the engine computes what the quantizer simulated; and what each part of a
# method is worth. Needs the folder of models, data and tools (TESSERA_SHARED, or ../shared), python3 with numpy for the
# variants, and two hours on two cores. Finished models are kept, so an interrupted run goes on where it was.
# Usage: [WINDOWS=N] scripts/results.sh [WORK_DIR]; WINDOWS is how many windows of each text are scored (default 64).
set -euo pipefail
cd "$(dirname "$0")/.."
shared=${TESSERA_SHARED:-../shared}
work=${1:-out/results}
windows=${WINDOWS:-64}
tessera=${TESSERA:-build/release/tessera/cli/tessera}
[ -d "$shared/models/lab-llama" ] || { echo "$shared/models/lab-llama is missing; set TESSERA_SHARED" >&2; exit 2; }
mkdir -p "$work"

methods=rtn+weight.bits=8,rtn,rtn-g128,smoothquant,smoothquant-g128,qqq,qqq-g128,qqq-rotation-g128
methods+=,dgq,dgq-static,dgq-gptq,rtn+activation.bits=4,quik,qllm-w4a8,qllm-w4a4
qqq=rtn+weight.bits=8,rtn,rtn-g128,qqq,qqq-g128,qqq-rotation,qqq-rotation-g128

# What the parts of a method are worth.
dgq_parts=rtn-g128,smoothquant-g128,dgq,dgq+rtn.scales=float,dgq+rtn.scales=wrapped,dgq+rtn.search=false
dgq_parts+=,dgq+equalize=off,dgq+rtn.clip=none,dgq+weight.group_size=64,dgq+weight.group_size=32,dgq-static
quik_parts=rtn+activation.bits=4,quik+outliers.count=0,quik+outliers.count=16,quik  # quik: 32 of 512 channels
quik_parts+=,quik+outliers.max_share=0.5+outliers.count=64,quik+outliers.max_share=0.5+outliers.count=128
quik_parts+=,quik+gptq.clip=none,quik+gptq.sparse=all
qllm_parts=rtn+activation.bits=4,qllm-w4a4+reassemble=off+correct=off,qllm-w4a4+reassemble=off
qllm_parts+=,qllm-w4a4+correct=off,qllm-w4a4,qllm-w4a4+correct=off+reassemble.assembly=false
qllm_parts+=,qllm-w4a4+correct=off+reassemble.virtual=true,qllm-w4a4+correct=off+reassemble.theta=2
qllm_parts+=,qllm-w4a4+correct=off+kv_bits=4,qllm-w4a8,qllm-w6a6
mixes=awq,gptq,mix-qqq-dgq,mix-rotation-dgq,mix-quik-w4a8,mix-qqq-dgq-qllm

variant() {
  [ -d "$work/$1" ] || python3 "$shared/tools/inject_outliers.py" "$shared/models/$2" "$work/$1" "${@:3}" >&2
  echo "$work/$1"
}

# compare TITLE MODEL METHODS TEXT: one table
compare() {
  printf '\n### %s, %s\n\n' "$1" "$4"
  "$tessera" compare "$2" --methods "$3" --calib "$shared/data/calib.txt" --windows 64 --tokens 256 \
    --work "$work/quantized-$(basename "$2")" --text "$shared/data/$4" --max-windows "$windows" --markdown
}

# both_texts TITLE MODEL METHODS
both_texts() {
  compare "$1" "$2" "$3" heldout.txt
  compare "$1" "$2" "$3" wikitext-2/test.txt
}

# verify TITLE MODEL METHODS
verify() {
  printf '\n### %s: engine and simulation\n\n' "$1"
  local dirs=()
  for method in ${3//,/ }; do dirs+=("$work/quantized-$(basename "$2")/$method"); done
  "$tessera" verify "${dirs[@]}" --text "$shared/data/heldout.txt" --max-windows 16 --markdown
}

llama=$shared/models/lab-llama opt=$shared/models/lab-opt
loud_llama=$(variant lab-llama-outliers lab-llama)
loud_opt=$(variant lab-opt-outliers lab-opt)
mild_llama=$(variant lab-llama-outliers-16-32 lab-llama --min 16 --max 32)
{
  for model in "$llama" "$loud_llama" "$opt" "$loud_opt"; do
    both_texts "$(basename "$model")" "$model" "$methods"
    verify "$(basename "$model")" "$model" "$methods"
  done
  both_texts lab-llama-outliers-16-32 "$mild_llama" "$qqq"
  compare "Parts of DGQ" "$loud_llama" "$dgq_parts" heldout.txt
  compare "Parts of QUIK" "$loud_llama" "$quik_parts" heldout.txt
  compare "Parts of QLLM" "$loud_llama" "$qllm_parts" heldout.txt
  compare "Weights only, and mixes" "$loud_llama" "$mixes" heldout.txt
  verify "Weights only, and mixes" "$loud_llama" "$mixes"
} | tee "$work/tables.md"
