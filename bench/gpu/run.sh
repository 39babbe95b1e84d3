#!/usr/bin/env bash
# Checks and times the CUDA kernels on a machine with a Hopper GPU. Run it in the repository root:
#   bench/gpu/run.sh [check] [sanitize] [tune] [compare] [engine]       default: check sanitize compare engine
# tune times every configuration, for fit_cost_model.py int4=out/gpu/tune_int4.jsonl ..., which makes the table of costs.
# engine holds whole models against the CPU and times them: MODELS="..." adds folders of models to the random ones,
# CONFIGS="llama-7b.json ..." names the config.json of shapes to time.
# TOKENS="8 16 ..." chooses what is timed, and which layers where it names them, too, as KxN.
# Results go to $OUT (default: out/gpu). Programs are taken from build/gpu when they lie there (built elsewhere with
# the preset "cuda" and carried over), otherwise they are built.
set -euo pipefail
out=${OUT:-out/gpu}
mkdir -p "$out"
steps=("${@:-}")
[[ -n ${steps[0]} ]] || steps=(check sanitize compare engine)

if [[ ! -x build/gpu/cuda_attention_bench ]]; then
  cmake --preset cuda -DTESSERA_QUANT=OFF
  programs=(gemm_check outlier_check gemm_bench activation_check cuda_attention_bench pack_check sample_check engine_check)
  cmake --build build/cuda --target "${programs[@]}" tessera_cli
  mkdir -p build/gpu
  for program in "${programs[@]}"; do cp build/cuda/bench/gpu/$program build/gpu/; done
  cp build/cuda/bin/tessera build/gpu/
fi
# cuBLAS may come with a Python package instead of a toolkit.
cublas=$(python3 -c 'import nvidia, pathlib
print(next((str(p.parent) for root in nvidia.__path__ for p in pathlib.Path(root).rglob("libcublasLt.so.13")), ""))' 2>/dev/null || true)
export LD_LIBRARY_PATH="${cublas:+$cublas:}${LD_LIBRARY_PATH:-}"

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv | tee "$out/gpu.txt"
for step in "${steps[@]}"; do
  echo "== $step"
  case $step in
    check)
      timeout 240 build/gpu/gemm_check
      timeout 60 build/gpu/outlier_check
      timeout 60 build/gpu/activation_check
      timeout 60 build/gpu/pack_check
      timeout 120 build/gpu/sample_check ;;
    sanitize)
      # Not racecheck: see docs/performance.md.
      for tool in memcheck synccheck; do
        for program in gemm_check outlier_check; do
          timeout 120 compute-sanitizer --tool $tool --error-exitcode 1 build/gpu/$program small | tail -3
        done
      done ;;
    tune)
      for layout in int4 g128 int8; do
        timeout 200 build/gpu/gemm_bench tune $layout ${TOKENS:-} > "$out/tune_$layout.jsonl"
      done ;;
    compare)
      timeout 100 build/gpu/cuda_attention_bench | tee "$out/attention.txt"
      timeout 500 build/gpu/gemm_bench compare ${TOKENS:-} > "$out/compare.jsonl"
      python3 bench/gpu/report.py "$out/compare.jsonl" --plot "$out/compare.png" ;;
    engine)
      for model in ${MODELS:-}; do build/gpu/tessera verify "$model" --device cuda; done
      timeout 500 build/gpu/engine_check ${MODELS:-} bench/gpu/families.json | tee "$out/engine_check.txt"
      for config in ${CONFIGS:-}; do
        for format in bf16 w8a8 w4a8 w4a8-g128; do
          for kv in 16 8 4; do
            timeout 300 build/gpu/tessera bench model "$config" --device cuda --format $format --kv-bits $kv \
              --batch 1,16,64 --prompt 2048 --context 512
          done
        done
      done | tee "$out/engine.txt" ;;
    *) echo "unknown step $step" >&2; exit 2 ;;
  esac
done
