// y = x W^T for half weights whose sums must not depend on how many rows run together: lm_head and
// weight-only layers of quantized models. Every output is one chain of products along K, whatever the tile.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

struct FloatGemmProblem {
  int64_t m = 0, n = 0, k = 0;    ///< tokens, outputs, inputs: k a multiple of 16
  const void* weights = nullptr;  ///< half [N, K]; this and x 16-byte aligned
  const float* bias = nullptr;    ///< [N] or null
  const void* x = nullptr;        ///< half [M, x_stride]
  int64_t x_stride = 0;           ///< elements, a multiple of 8
  void* out = nullptr;            ///< [M, out_stride]
  int64_t out_stride = 0;
  bool float_out = false;   ///< float instead of half
  bool accumulate = false;  ///< out is added to the product
};

void float_gemm(const FloatGemmProblem& problem, cudaStream_t stream, bool overlap_previous = false);

}  // namespace tessera::cuda
