// The tile sizes of the kernels for compute capability 8.0 and later, and which of them a product gets.
#pragma once

#include <cstdint>
#include <span>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda::sm80 {

std::span<const GemmConfig> all_configs();

/// The tile whose rounds over `sms` multiprocessors take the least time, by traffic and arithmetic alone.
GemmConfig choose_config(WeightLayout layout, int64_t m, int64_t n, int64_t k, int sms);

}  // namespace tessera::cuda::sm80
