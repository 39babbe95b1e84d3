// From a tile size at run time to one at compile time.
#pragma once

#include <iterator>
#include <utility>

#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/gemm.h"
#include "tessera/kernels/cuda/sm90a/tile_sizes.h"

namespace tessera::cuda {

/// Calls `call.operator()<size>()` for the one of kSizes that `config` names; with kOutliers among those that
/// exist with outliers. Throws Error when there is none.
template <const auto& kSizes, bool kOutliers, class Call>
void with_size(const GemmConfig& config, Call call) {
  const auto call_if = [&]<TileSize kSize>() {
    if constexpr (!kOutliers || has_outliers(kSize)) {
      if (kSize != TileSize{config.outputs, config.tokens}) return false;
      call.template operator()<kSize>();
      return true;
    }
    return false;
  };
  const bool found = [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
    return (call_if.template operator()<kSizes[kIndex]>() || ...);
  }
  (std::make_index_sequence<std::size(kSizes)>());
  if (!found) check(cudaErrorInvalidValue, "choice of a GEMM tile");
}

}  // namespace tessera::cuda
