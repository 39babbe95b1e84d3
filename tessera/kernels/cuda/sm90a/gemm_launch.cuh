// Launch of the kernels for every tile size of one weight layout. Each layout has its own .cu file, so that
// they compile side by side.
#pragma once

#include <array>
#include <atomic>
#include <bit>

#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/sm90a/gemm_kernel.cuh"
#include "tessera/kernels/cuda/sm90a/launchers.h"
#include "tessera/kernels/cuda/sm90a/stream_launch.cuh"
#include "tessera/kernels/cuda/sm90a/with_size.h"

namespace tessera::cuda {

/// How many clusters of `split` blocks the device holds at once.
template <class Weights, class T>
int resident_clusters(const cudaLaunchConfig_t& config) {
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, gemm_kernel<Weights, T>, &config),
        "cudaOccupancyMaxActiveClusters");
  return clusters;
}

template <class Weights, class T>
void launch_tile(const GemmProblem& problem, const TensorMaps& maps, int split, bool overlap_previous,
                 cudaStream_t stream) {
  const auto kernel = gemm_kernel<Weights, T>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes),
        "cudaFuncSetAttribute");
  GemmParams params;
  params.problem = problem;
  params.order = {static_cast<int>(ceil_div(problem.m, T::kTokens)),
                  static_cast<int>(ceil_div(problem.weights.n, T::kOutputs))};
  params.input_blocks = static_cast<int>(ceil_div(problem.weights.k, kBlockInputs));
  if (T::kOutliers) params.outlier_blocks = static_cast<int>(problem.outliers.count / kOutlierColumns);
  params.row_blocks = static_cast<int>(ceil_div(problem.weights.n, kBlockOutputs));
  params.tile_tokens = tile_tokens(problem.m, T::kTokens);
  params.overlapped = overlap_previous;
  params.split_log2 = std::countr_zero(static_cast<unsigned>(split));

  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(split), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.blockDim = T::kThreads;
  config.gridDim = static_cast<unsigned>(split);
  config.dynamicSmemBytes = T::kSharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = overlap_previous ? 2 : 1;

  static std::array<std::atomic<int>, 9> resident{};  // by split; the same on every device of a kind
  int clusters = resident[static_cast<size_t>(split)].load(std::memory_order_relaxed);
  if (clusters == 0) {
    clusters = resident_clusters<Weights, T>(config);
    resident[static_cast<size_t>(split)].store(clusters, std::memory_order_relaxed);
  }
  config.gridDim =
      static_cast<unsigned>(std::min(clusters, params.order.token_tiles * params.order.row_tiles) * split);
  check(cudaLaunchKernelEx(&config, kernel, maps, params), "launch of the sm_90a integer GEMM");
}

/// Launches the tile that `config` names; those with outliers for problems with outliers.
template <class Weights, bool kOutliers = false>
void launch_layout(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                   bool overlap_previous, cudaStream_t stream) {
  if (config.streams())
    return launch_stream<Weights, kOutliers>(problem, maps, config, overlap_previous, stream);
  with_size<kTileSizes, kOutliers>(config, [&]<TileSize kSize>() {
    launch_tile<Weights, Tile<Weights, kSize.outputs, kSize.tokens, kOutliers>>(problem, maps, config.split,
                                                                                overlap_previous, stream);
  });
}

}  // namespace tessera::cuda
