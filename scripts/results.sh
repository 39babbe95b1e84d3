#!/usr/bin/env bash
# Measures the tables of docs/results.md: every method on a LLaMA and an OPT model and on variants of them with outlier
# channels, and on one that others trained; both texts, integer engine; that the engine computes what the quantizer
# simulated; and what each part of a method is worth. Needs the folder of models and data (TESSERA_SHARED, or ../shared), python3
# with numpy for the variants, and about two hours on two cores. Finished models are kept, so an interrupted run goes on where it was.
# Usage: [WINDOWS=N] [CALIBRATION=TOKENS] scripts/results.sh [WORK_DIR [SECTION...]]; WINDOWS is how many windows of each
# text are scored (default 32), CALIBRATION how many tokens everything is calibrated with (default 16384). Sections, all
# by default, each written to WORK_DIR/SECTION.md: see the end. `smollm2` needs SmolLM2-135M-Instruct in float16 as the
# Hugging Face folder $TESSERA_SMOLLM2/SmolLM2-135M, and is left out without it.
set -euo pipefail
cd "$(dirname "$0")/.."
shared=${TESSERA_SHARED:-../shared}
work=${1:-out/results}
windows=${WINDOWS:-32}
calibration_tokens=${CALIBRATION:-16384}
tessera=${TESSERA:-build/release/bin/tessera}
[ -d "$shared/models/lab-llama" ] || { echo "$shared/models/lab-llama is missing; set TESSERA_SHARED" >&2; exit 2; }
mkdir -p "$work"

methods=rtn+weight.bits=8,rtn,rtn-g128,smoothquant,smoothquant-g128,qqq,qqq-g128,dgq,dgq-static
methods+=,rtn+activation.bits=4,quik,qllm-w4a8,qllm-w4a4
qqq=rtn+weight.bits=8,rtn,rtn-g128,qqq,qqq-g128,qqq-rotation,qqq-rotation-g128

# What the parts of a method are worth.
dgq_parts=rtn-g128,smoothquant-g128,dgq,dgq+rtn.scales=float,dgq+rtn.scales=wrapped,dgq+rtn.search=false
dgq_parts+=,dgq+equalize=off,dgq+rtn.clip=none,dgq+weight.group_size=64,dgq+weight.group_size=32,dgq-static,dgq-gptq
quik_parts=rtn+activation.bits=4,quik+outliers.count=0,quik+outliers.count=16,quik  # quik: 32 of 512 channels
quik_parts+=,quik+outliers.max_share=0.5+outliers.count=64,quik+outliers.max_share=0.5+outliers.count=128
quik_parts+=,quik+gptq.clip=none,quik+gptq.sparse=all
qllm_parts=rtn+activation.bits=4,qllm-w4a4+reassemble=off+correct=off,qllm-w4a4+reassemble=off
qllm_parts+=,qllm-w4a4+correct=off,qllm-w4a4,qllm-w4a4+correct=off+reassemble.assembly=false
qllm_parts+=,qllm-w4a4+correct=off+reassemble.virtual=true,qllm-w4a4+correct=off+reassemble.theta=2
qllm_parts+=,qllm-w4a4+correct=off+kv_bits=4,qllm-w4a8,qllm-w6a6
mixes=awq,gptq,best-w4a8,best-w4a4,mix-qqq-dgq,mix-rotation-dgq,mix-quik-w4a8,mix-qqq-dgq-qllm

# SmolLM2: sides of its linears are multiples of 64, not of 128.
smollm2=rtn+weight.bits=8,rtn,rtn-g64,smoothquant,smoothquant-g64,qqq,qqq-g64,qqq-rotation-g64,dgq-g64,dgq-static-g64
smollm2+=,rtn+activation.bits=4,quik,qllm-w4a8,qllm-w4a4,awq-g64,gptq-g64,mix-qqq-dgq-g64,best-w4a8-g64,dgq-gptq-g64,mix-rotation-dgq-g64,mix-quik-w4a8,qllm-w6a6,mix-qqq-dgq-qllm-g64

# scale_bits GROUP: what it costs that output scales have few bits, so that other formats hold the weights.
scale_bits() {
  echo "qqq+gptq.scale_bits=24,qqq,qqq-g$1+gptq.scale_bits=24,qqq-g$1,dgq-g$1+rtn.scale_bits=24,dgq-g$1,\
rtn+rtn.scale_bits=24,rtn,rtn-g$1+rtn.scale_bits=24,rtn-g$1"
}

# model NAME: its folder; variants with outlier channels are made on first use
model() {
  [ "$1" = smollm2 ] && { echo "$TESSERA_SMOLLM2/SmolLM2-135M"; return; }
  local base=${1%%-outliers*} options=()
  [ "$base" = "$1" ] && { echo "$shared/models/$1"; return; }
  [[ $1 = *-16-32 ]] && options=(--min 16 --max 32)
  [ -d "$work/$1" ] || scripts/inject_outliers.py "$shared/models/$base" "$work/$1" "${options[@]}" >&2
  echo "$work/$1"
}

# compare MODEL METHODS TEXT: one table. Calibration windows have 256 tokens, those of OPT are as long as its context, since
# it has learned positions that shorter windows do not reach. Windows as long as the context are scored, of SmolLM2 1024.
compare() {
  local tokens=256 scored=(--max-windows "$windows")
  [[ $1 = lab-opt* ]] && tokens=1024
  [ "$1" = smollm2 ] && scored+=(--window 1024)
  local calibration=(--windows $((calibration_tokens / tokens)) --tokens $tokens)
  printf '\n### %s, %s\n\n' "$1" "$3"
  "$tessera" compare "$(model "$1")" --methods "$2" --calib "$shared/data/calib.txt" "${calibration[@]}" \
    --work "$work/quantized-$1" --text "$shared/data/$3" "${scored[@]}" --markdown
}

# both_texts MODEL METHODS
both_texts() {
  compare "$1" "$2" heldout.txt
  compare "$1" "$2" wikitext-2/test.txt
}

# verify MODEL METHODS
verify() {
  printf '\n### %s: engine and simulation\n\n' "$1"
  local dirs=()
  for method in ${2//,/ }; do dirs+=("$work/quantized-$1/$method"); done
  "$tessera" verify "${dirs[@]}" --text "$shared/data/heldout.txt" --max-windows 16 --markdown
}

section() {
  local loud=lab-llama-outliers group=128 model
  case $1 in
    lab-llama | lab-llama-outliers | lab-opt | lab-opt-outliers) both_texts "$1" "$methods"; verify "$1" "$methods" ;;
    lab-llama-outliers-16-32) both_texts "$1" "$qqq" ;;
    parts-dgq) compare $loud "$dgq_parts" heldout.txt ;;
    parts-quik) compare $loud "$quik_parts" heldout.txt ;;
    parts-qllm) compare $loud "$qllm_parts" heldout.txt ;;
    mixes) compare $loud "$mixes" heldout.txt; verify $loud "$mixes" ;;
    smollm2) both_texts smollm2 "$smollm2" ;;
    scale-bits)
      for model in demo-llama lab-llama lab-llama-outliers lab-opt ${TESSERA_SMOLLM2:+smollm2}; do
        [ "$model" = smollm2 ] && group=64
        compare "$model" "$(scale_bits $group)" heldout.txt
      done ;;
    *) echo "unknown section $1" >&2; exit 2 ;;
  esac
}

sections=("${@:2}")
[ ${#sections[@]} -gt 0 ] || sections=(lab-llama lab-llama-outliers lab-opt lab-opt-outliers lab-llama-outliers-16-32
                                       parts-dgq parts-quik parts-qllm mixes scale-bits
                                       ${TESSERA_SMOLLM2:+smollm2})
for name in "${sections[@]}"; do
  section "$name" | tee "$work/$name.md.partial"
  mv "$work/$name.md.partial" "$work/$name.md"
done
