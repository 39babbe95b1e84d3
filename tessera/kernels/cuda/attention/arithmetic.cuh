// The arithmetic of attention, element by element, that every kernel shares, so that a row's result does not
// depend on which kernel computed it. For each page of 64 positions:
//
//   scores    S = q K^T, float sums of half products over the head's dimensions, times log2(e) /
//   sqrt(head_dim) weights   p = 2^(s - max s), in half for the second product out       O = P V, with
//   nothing added to it from other pages
//
// Sums over the positions of a page have one order: score_position(j, c) for j = 0 .. 7 one after the other,
// then the eight columns c in a tree, neighbours first. Pages and spans are added up by FoldFactors.
//
// Codes of a quantized cache enter products as u - centre, exact in half; zero points come behind the sums:
//   s = scale_k (q (u - centre) - (zero - centre) sum q)
//   O = most (P' (u - centre) - sum P' (zero - centre)),  P' = p scale_v / most
// and `most` is the largest value scale that the row sees in the page, so that P' uses half's range.
#pragma once

#include <cuda_fp16.h>

#include <cmath>

#include "tessera/format/kv_format.h"

namespace tessera::cuda {

__device__ __forceinline__ float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

constexpr float kLog2E = 1.4426950408889634f;

/// From products to scores.
struct ScoreRule {
  float scale;  ///< log2(e) / sqrt(head_dim)
  bool sloped;  ///< ALiBi

  template <int kDim>
  static __device__ __forceinline__ ScoreRule of(const float* alibi_slopes) {
    return {kLog2E * rsqrtf(static_cast<float>(kDim)), alibi_slopes != nullptr};
  }
  static __device__ __forceinline__ float slope(const float* alibi_slopes, int head) {
    return alibi_slopes[head] * kLog2E;
  }
  __device__ __forceinline__ float score(float product) const { return __fmul_rn(product, scale); }
  __device__ __forceinline__ float biased(float score, float slope, float distance) const {
    return __fmaf_rn(slope, distance, score);
  }
};

__device__ __forceinline__ float weight_of(float score, float most) {
  return exp2_approximate(__fsub_rn(score, most == -INFINITY ? 0 : most));
}

constexpr int code_centre(KvFormat format) {
  return format == KvFormat::kInt8 ? 128 : 8;
}
/// `zero`: of the key, less the centre.
__device__ __forceinline__ float unscaled_score(float product, float query_sum, float scale, float zero) {
  return __fmul_rn(__fmaf_rn(-zero, query_sum, product), scale);
}
/// Positions that nothing was stored at may have any scale and zero point: those of weight 0 do not count.
__device__ __forceinline__ float seen(float weight, float scale) {
  return weight > 0 ? scale : 0;
}
__device__ __forceinline__ float scaled_weight(float weight, float scale, float inverse) {
  return weight == 0 ? 0 : __fmul_rn(weight, __fmul_rn(scale, inverse));
}
/// sum + P' zero
__device__ __forceinline__ float add_shift(float sum, float weight, float zero) {
  const float half = __half2float(__float2half_rn(weight));
  return half == 0 ? sum : __fmaf_rn(half, zero, sum);
}
__device__ __forceinline__ float unscaled(float out, float shift, float most) {
  return __fmul_rn(__fsub_rn(out, shift), most);
}

__device__ __forceinline__ uint32_t pack_halves(float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  return reinterpret_cast<const uint32_t&>(pair);
}

/// Sum and maximum over the four lanes that share a row.
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

/// Of four halves of a query.
__device__ __forceinline__ float sum_of_halves(uint2 words) {
  const float2 low = __half22float2(reinterpret_cast<const __half2&>(words.x));
  const float2 high = __half22float2(reinterpret_cast<const __half2&>(words.y));
  return low.x + low.y + (high.x + high.y);
}

/// The factors by which two results are added up.
struct FoldFactors {
  float most, of_first, of_second;

  __device__ __forceinline__ FoldFactors(float first, float second) : most(fmaxf(first, second)) {
    const float base = most == -INFINITY ? 0 : most;
    of_first = exp2_approximate(first - base);
    of_second = exp2_approximate(second - base);
  }
  __device__ __forceinline__ float add(float first, float second) const {
    return __fmaf_rn(first, of_first, __fmul_rn(second, of_second));
  }
};

}  // namespace tessera::cuda
