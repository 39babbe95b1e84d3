// The entry points of the sm_90a kernels, one a weight layout; launch.cc dispatches to them.
#pragma once

#include <cuda.h>

#include "tessera/kernels/cuda/gemm.h"
#include "tessera/kernels/cuda/sm90a/tile_sizes.h"

namespace tessera::cuda {

/// What the copy engine reads beside weights, and writes; in the 128-byte swizzle where not said otherwise.
struct TensorMaps {
  CUtensorMap codes;     ///< boxes of 128 inputs x the tokens of a tile
  CUtensorMap out;       ///< boxes of 64 outputs x the tokens of a tile; only when packs_outputs()
  CUtensorMap outliers;  ///< boxes of 32 columns x the tokens of a tile, 64-byte swizzle; only with outliers
};

/// 16-bit outputs without a residual, in whole runs of eight.
constexpr bool packs_outputs(const GemmProblem& p) {
  const bool narrow = p.output == OutputType::kHalf || p.output == OutputType::kBFloat16;
  return narrow && !p.residual && p.weights.n % 8 == 0 && p.out_stride % 8 == 0;
}

/// True when the sm_90a kernels have `config` for problems with outliers.
constexpr bool runs_outliers(const GemmProblem& p, const GemmConfig& config) {
  if (p.weights.layout.group_size > 0 || !has_outliers({config.outputs, config.tokens})) return false;
  if (config.streams()) return config.split == 1;
  return splits_outliers(config.outputs, config.tokens, config.split) && packs_outputs(p);
}

using GemmLauncher = void(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                          bool overlap_previous, cudaStream_t stream);

/// For problems with outliers; configurations for which runs_outliers() holds.
GemmLauncher launch_sm90a_int4_outliers, launch_sm90a_int8_outliers;
GemmLauncher launch_sm90a_int8, launch_sm90a_int4;
GemmLauncher launch_sm90a_grouped128, launch_sm90a_grouped64, launch_sm90a_grouped32;

/// Runs `config`, one of all_configs(), on a problem that gemm_obstacle() has nothing against.
void launch_sm90a(const GemmProblem& problem, const GemmConfig& config, bool overlap_previous,
                  cudaStream_t stream);

}  // namespace tessera::cuda
