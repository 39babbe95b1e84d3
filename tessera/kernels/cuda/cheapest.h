// The choice among configurations of a kernel.
#pragma once

#include <limits>
#include <optional>
#include <span>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda {

/// The configuration with the least time(config) among those for which exists(config) holds; none when there
/// are none.
template <class Exists, class Time>
std::optional<GemmConfig> cheapest(std::span<const GemmConfig> configs, const Exists& exists,
                                   const Time& time) {
  std::optional<GemmConfig> best;
  double least = std::numeric_limits<double>::infinity();
  for (const GemmConfig& config : configs) {
    if (!exists(config)) continue;
    const double needed = time(config);
    if (needed < least) {
      least = needed;
      best = config;
    }
  }
  return best;
}

}  // namespace tessera::cuda
