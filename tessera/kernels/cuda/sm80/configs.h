// The tile sizes of the kernels for compute capability 8.0 and later, and which of them a product gets.
#pragma once

#include <cstdint>
#include <span>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda::sm80 {

/// From the smallest on. The largest has no room for the sums of outliers.
std::span<const GemmConfig> all_configs(bool outliers = false);

/// The tile whose rounds over `sms` multiprocessors take the least time, by traffic and arithmetic alone.
GemmConfig choose_config(const GemmProblem& problem, int sms);

}  // namespace tessera::cuda::sm80
