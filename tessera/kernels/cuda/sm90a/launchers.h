// The entry points of the sm_90a kernels, one a weight layout; gemm.cc dispatches to them.
#pragma once

#include <cuda.h>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda {

/// `codes` maps the activation codes in boxes of 128 inputs x config.tokens tokens, 128-byte swizzle.
using GemmLauncher = void(const GemmProblem& problem, const CUtensorMap& codes, const GemmConfig& config,
                          bool overlap_previous, cudaStream_t stream);

GemmLauncher launch_sm90a_int8, launch_sm90a_int4;
GemmLauncher launch_sm90a_grouped128, launch_sm90a_grouped64, launch_sm90a_grouped32;

}  // namespace tessera::cuda
