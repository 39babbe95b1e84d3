#!/usr/bin/env bash
# Checks and times the CUDA kernels on a machine with a Hopper GPU. Run it in the repository root:
#   bench/gpu/run.sh [check] [sanitize] [tune] [compare]       default: check sanitize compare
# tune times every configuration, for fit_cost_model.py int4=out/gpu/tune_int4.jsonl ..., which makes the table of costs.
# TOKENS="8 16 ..." chooses what is timed, and which layers where it names them, too, as KxN.
# Results go to $OUT (default: out/gpu). Programs are taken from build/gpu when they lie there (built elsewhere with
# the preset "cuda" and carried over), otherwise they are built.
set -euo pipefail
out=${OUT:-out/gpu}
mkdir -p "$out"
steps=("${@:-}")
[[ -n ${steps[0]} ]] || steps=(check sanitize compare)

if [[ ! -x build/gpu/gemm_bench ]]; then
  cmake --preset cuda -DTESSERA_QUANT=OFF
  cmake --build build/cuda --target gemm_check outlier_check gemm_bench activation_check
  mkdir -p build/gpu
  find build/cuda -type f \( -name gemm_check -o -name outlier_check -o -name gemm_bench -o -name activation_check \) -exec cp {} build/gpu/ \;
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
      timeout 60 build/gpu/activation_check ;;
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
      timeout 500 build/gpu/gemm_bench compare ${TOKENS:-} > "$out/compare.jsonl"
      python3 bench/gpu/report.py "$out/compare.jsonl" --plot "$out/compare.png" ;;
    *) echo "unknown step $step" >&2; exit 2 ;;
  esac
done
