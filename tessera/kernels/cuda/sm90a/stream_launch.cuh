// Launch of stream_kernel for every tile size of one weight layout.
#pragma once

#include <algorithm>

#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/cost_model.h"
#include "tessera/kernels/cuda/sm90a/stream_kernel.cuh"
#include "tessera/kernels/cuda/sm90a/with_size.h"

namespace tessera::cuda {

template <class Weights, class T>
void launch_stream_tile(const GemmProblem& problem, const TensorMaps& maps, const StreamPlan& plan,
                        bool overlap_previous, cudaStream_t stream) {
  const auto kernel = stream_kernel<Weights, T>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedPerBlock),
        "cudaFuncSetAttribute");
  StreamParams params;
  params.problem = problem;
  params.input_blocks = static_cast<int>(ceil_div(problem.weights.k, kBlockInputs));
  if (T::kOutliers) params.outlier_blocks = static_cast<int>(problem.outliers.count / kOutlierColumns);
  params.input_blocks_per_rank =
      static_cast<int>(ceil_div(params.input_blocks + params.outlier_blocks, plan.split));
  params.row_tiles = static_cast<int>(ceil_div(problem.weights.n, T::kOutputs));
  params.tile_tokens = tile_tokens(problem.m, T::kTokens);
  params.stages = plan.stages;
  params.overlapped = overlap_previous;

  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.blockDim = static_cast<unsigned>(plan.warps * 32);
  const int64_t token_tiles = ceil_div(problem.m, T::kTokens);
  config.gridDim = {
      static_cast<unsigned>(std::min(plan.clusters(token_tiles), params.row_tiles) * plan.split),
      static_cast<unsigned>(token_tiles), 1};
  config.dynamicSmemBytes = static_cast<size_t>(T::shared_bytes(plan.warps, plan.stages));
  config.stream = stream;
  config.attrs = attributes;
  if (plan.split > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {static_cast<unsigned>(plan.split), 1, 1};
  }
  if (overlap_previous) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  check(cudaLaunchKernelEx(&config, kernel, maps, params), "launch of the sm_90 integer GEMM for few tokens");
}

template <class Weights, bool kOutliers>
void launch_stream(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                   bool overlap_previous, cudaStream_t stream) {
  const StreamPlan plan = plan_stream(Weights::kLayout, config, problem.m, problem.weights.n, kOutliers);
  with_size<kStreamTileSizes, kOutliers>(config, [&]<TileSize kSize>() {
    using Size = StreamTile<Weights, kSize.outputs / kStripOutputs, kSize.tokens, kOutliers>;
    launch_stream_tile<Weights, Size>(problem, maps, plan, overlap_previous, stream);
  });
}

}  // namespace tessera::cuda
