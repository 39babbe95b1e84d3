// From sums to scaled outputs in device memory: the arithmetic of gemm.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda {

__device__ __forceinline__ void convert(float y, float& out) {
  out = y;
}
__device__ __forceinline__ void convert(float y, __half& out) {
  out = __float2half_rn(y);
}
__device__ __forceinline__ void convert(float y, __nv_bfloat16& out) {
  out = __float2bfloat16_rn(y);
}
__device__ __forceinline__ float to_float(float y) {
  return y;
}
__device__ __forceinline__ float to_float(__half y) {
  return __half2float(y);
}
__device__ __forceinline__ float to_float(__nv_bfloat16 y) {
  return __bfloat162float(y);
}

/// Scale and zero point of a token.
struct TokenFactors {
  float scale = 0;
  int zero = 0;
};

__device__ __forceinline__ TokenFactors load_token(const GemmProblem& p, int64_t token) {
  TokenFactors factors;
  if (p.token_scale) factors.scale = p.token_scale[token];
  if (p.token_zero) factors.zero = p.token_zero[token];
  return factors;
}

/// Constants of kCount (4 or 1) neighbouring outputs.
template <int kCount>
struct Columns {
  float scale[kCount], bias[kCount];
  int row_sum[kCount];

  __device__ __forceinline__ Columns(const PackedWeights& w, int64_t n) {
    load(w.scale, n, scale);
    load(w.bias, n, bias);
    load(w.row_sum, n, row_sum);
  }
  template <class V>
  static __device__ __forceinline__ void load(const V* from, int64_t n, V (&to)[kCount]) {
    struct alignas(kCount * sizeof(V)) Run {
      V value[kCount];
    };
    Run run{};
    if (from) run = *reinterpret_cast<const Run*>(from + n);
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = run.value[i];
  }
};

/// Scales and stores kCount neighbouring outputs of one token; `index` is that of the first in `out`,
/// `bypass` are their sums over outliers, or null.
template <int kShift, class Out, int kCount>
__device__ __forceinline__ void finish_outputs(const GemmProblem& p, const Columns<kCount>& columns,
                                               const int (&sums)[kCount], TokenFactors token, int64_t index,
                                               const float* bypass = nullptr) {
  struct alignas(kCount * sizeof(Out)) Outputs {
    Out value[kCount];
  };
  Outputs out;
  if constexpr (std::is_same_v<Out, int>) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) out.value[i] = sums[i] >> kShift;
  } else {
    Outputs residual{};
    if (p.residual) residual = *reinterpret_cast<const Outputs*>(static_cast<const Out*>(p.residual) + index);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float value = static_cast<float>((sums[i] >> kShift) - token.zero * columns.row_sum[i]);
      float y = __fmul_rn(__fmul_rn(value, columns.scale[i]), token.scale);
      if (bypass) y = __fadd_rn(y, bypass[i]);
      if (p.weights.bias) y = __fadd_rn(y, columns.bias[i]);
      if (p.residual) y = __fadd_rn(y, to_float(residual.value[i]));
      convert(y, out.value[i]);
    }
  }
  *reinterpret_cast<Outputs*>(static_cast<Out*>(p.out) + index) = out;
}

/// Four outputs may be loaded and stored at once.
__device__ __forceinline__ bool whole_runs(const GemmProblem& p) {
  return p.weights.n % 4 == 0 && p.out_stride % 4 == 0;
}

/// Constants of the four outputs from n on, loaded before they are needed.
struct ColumnRun {
  int64_t n;
  bool whole;  ///< otherwise the outputs are finished one by one, with constants loaded then
  Columns<4> columns;

  __device__ __forceinline__ ColumnRun(const GemmProblem& p, int64_t first)
      : n(first), whole(whole_runs(p)), columns(p.weights, whole && first < p.weights.n ? first : 0) {}
};

template <int kShift, class Out>
__device__ __forceinline__ void finish_run_as(const GemmProblem& p, const ColumnRun& run, int4 sum,
                                              TokenFactors factors, int64_t token, const float* bypass) {
  const int sums[4] = {sum.x, sum.y, sum.z, sum.w};
  if (run.whole) {
    if (run.n < p.weights.n)
      finish_outputs<kShift, Out, 4>(p, run.columns, sums, factors, token * p.out_stride + run.n, bypass);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (run.n + i >= p.weights.n) break;
    const int one[1] = {sums[i]};
    finish_outputs<kShift, Out, 1>(p, Columns<1>(p.weights, run.n + i), one, factors,
                                   token * p.out_stride + run.n + i, bypass ? bypass + i : nullptr);
  }
}

/// Finishes one token's run of four outputs; `bypass` as above.
template <int kShift>
__device__ __forceinline__ void finish_run(const GemmProblem& p, const ColumnRun& run, int4 sum,
                                           TokenFactors factors, int64_t token,
                                           const float* bypass = nullptr) {
  switch (p.output) {
    case OutputType::kFloat:
      return finish_run_as<kShift, float>(p, run, sum, factors, token, bypass);
    case OutputType::kHalf:
      return finish_run_as<kShift, __half>(p, run, sum, factors, token, bypass);
    case OutputType::kBFloat16:
      return finish_run_as<kShift, __nv_bfloat16>(p, run, sum, factors, token, bypass);
    case OutputType::kAccumulator:
      return finish_run_as<kShift, int>(p, run, sum, factors, token, bypass);
  }
}

}  // namespace tessera::cuda
