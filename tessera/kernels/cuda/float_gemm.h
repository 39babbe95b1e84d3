// y = x W^T in floats whose sums must not depend on how many tokens run together: lm_head and weight-only
// layers of quantized models. Every output is the sum of kSlices chains of products along K, whatever the
// tile.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

/// 4-bit weights [N, K]: scale[n] * (group scale * (code - zero point)), the bracket rounded to half.
/// pack_float_codes() makes both arrays.
struct FloatCodes {
  const void* words =
      nullptr;  ///< uint32 [N, K / 8]: of inputs 0 2 4 6 1 3 5 7, the first in the lowest bits
  const void* groups = nullptr;  ///< half2 [N, K / group_size]: scale, 1024 + zero point
  int64_t group_size = 0;        ///< a multiple of 32
  const float* scale = nullptr;  ///< [N]
};

struct FloatGemmProblem {
  int64_t m = 0, n = 0, k = 0;    ///< tokens, outputs, inputs: k a multiple of 16, with codes of 32
  const void* weights = nullptr;  ///< half [N, K]; this and x 16-byte aligned. Null: codes
  FloatCodes codes = {};
  const float* bias = nullptr;  ///< [N] or null
  const void* x = nullptr;      ///< half [M, x_stride]
  int64_t x_stride = 0;         ///< elements, a multiple of 8
  void* out = nullptr;          ///< [M, out_stride]
  int64_t out_stride = 0;
  bool float_out = false;   ///< float instead of half
  bool accumulate = false;  ///< out is added to the product
};

void float_gemm(const FloatGemmProblem& problem, cudaStream_t stream, bool overlap_previous = false);

}  // namespace tessera::cuda
