// The entry point of the kernels for compute capability 8.0 and later.
#pragma once

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda::sm80 {

/// Enqueues the product with a tile of all_configs().
void launch(const GemmProblem& problem, const GemmConfig& config, cudaStream_t stream);

}  // namespace tessera::cuda::sm80
