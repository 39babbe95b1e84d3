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
                  static_cast<int>(ceil_div(problem.weights.n, T::kRows))};
  params.input_blocks = static_cast<int>(ceil_div(problem.weights.k, kBlockInputs));
  if (T::kOutliers) params.outlier_blocks = static_cast<int>(problem.outliers.count / kOutlierColumns);
  params.row_blocks = static_cast<int>(ceil_div(problem.weights.n, kBlockRows));
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

template <class Weights>
void launch_layout(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                   bool overlap_previous, cudaStream_t stream) {
  if (config.streams()) return launch_stream<Weights, false>(problem, maps, config, overlap_previous, stream);
  const auto launch = [&]<int kRows, int kTokens>() {
    launch_tile<Weights, Tile<Weights, kRows, kTokens, false>>(problem, maps, config.split, overlap_previous,
                                                               stream);
  };
  switch (config.rows * 1000 + config.tokens) {
    case 64'064:
      return launch.template operator()<64, 64>();
    case 64'080:
      return launch.template operator()<64, 80>();
    case 64'128:
      return launch.template operator()<64, 128>();
    case 64'144:
      return launch.template operator()<64, 144>();
    case 128'032:
      return launch.template operator()<128, 32>();
    case 128'048:
      return launch.template operator()<128, 48>();
    case 128'064:
      return launch.template operator()<128, 64>();
    case 128'096:
      return launch.template operator()<128, 96>();
    case 128'128:
      return launch.template operator()<128, 128>();
    case 128'144:
      return launch.template operator()<128, 144>();
    case 128'176:
      return launch.template operator()<128, 176>();
    case 128'256:
      return launch.template operator()<128, 256>();
    case 192'032:
      return launch.template operator()<192, 32>();
    case 192'048:
      return launch.template operator()<192, 48>();
    case 192'064:
      return launch.template operator()<192, 64>();
    case 192'080:
      return launch.template operator()<192, 80>();
    case 192'096:
      return launch.template operator()<192, 96>();
    case 192'128:
      return launch.template operator()<192, 128>();
    case 192'144:
      return launch.template operator()<192, 144>();
    case 192'160:
      return launch.template operator()<192, 160>();
    case 256'080:
      return launch.template operator()<256, 80>();
    case 256'128:
      return launch.template operator()<256, 128>();
    default:
      check(cudaErrorInvalidValue, "choice of a GEMM tile");
  }
}

/// For problems with outliers; those that no tile here has are checked for in gemm.cc.
template <class Weights>
void launch_outliers(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                     bool overlap_previous, cudaStream_t stream) {
  if (config.streams()) return launch_stream<Weights, true>(problem, maps, config, overlap_previous, stream);
  const auto launch = [&]<int kRows, int kTokens>() {
    launch_tile<Weights, Tile<Weights, kRows, kTokens, true>>(problem, maps, config.split, overlap_previous,
                                                              stream);
  };
  switch (config.rows * 1000 + config.tokens) {
    case 128'032:
      return launch.template operator()<128, 32>();
    case 128'048:
      return launch.template operator()<128, 48>();
    case 128'064:
      return launch.template operator()<128, 64>();
    case 128'096:
      return launch.template operator()<128, 96>();
    case 128'128:
      return launch.template operator()<128, 128>();
    case 128'144:
      return launch.template operator()<128, 144>();
    case 192'064:
      return launch.template operator()<192, 64>();
    case 192'080:
      return launch.template operator()<192, 80>();
    case 192'128:
      return launch.template operator()<192, 128>();
    default:
      check(cudaErrorInvalidValue, "choice of a GEMM tile");
  }
}

}  // namespace tessera::cuda
