// Launch of the kernels for compute capability 8.0 and later, every layout and tile.
#include "tessera/kernels/cuda/sm80/gemm.h"

#include <iterator>

#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/sm80/gemm_kernel.cuh"

namespace tessera::cuda::sm80 {
namespace {

template <class Weights, class T>
void launch_tile(const GemmProblem& problem, cudaStream_t stream) {
  const auto kernel = gemm_kernel<Weights, T>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes),
        "cudaFuncSetAttribute");
  Params params;
  params.problem = problem;
  params.input_blocks = static_cast<int>(ceil_div(problem.weights.k, kBlockInputs));
  params.input_stages = static_cast<int>(ceil_div(params.input_blocks, T::kInputWarps));
  if (T::kOutliers) params.outlier_blocks = static_cast<int>(problem.outliers.count / kOutlierColumns);
  params.outlier_stages = static_cast<int>(ceil_div(params.outlier_blocks, T::kInputWarps));
  params.row_blocks = static_cast<int>(ceil_div(problem.weights.n, kBlockOutputs));
  params.order = {static_cast<int>(ceil_div(problem.m, T::kTokens)),
                  static_cast<int>(ceil_div(problem.weights.n, T::kOutputs))};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(params.order.token_tiles * params.order.row_tiles);
  config.blockDim = T::kThreads;
  config.dynamicSmemBytes = T::kSharedBytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, params), "launch of the sm_80 integer GEMM");
}

/// Calls launch_tile for the shape that `config` names.
template <class Weights, bool kOutliers, size_t kShape = 0>
void launch_shape(const GemmProblem& problem, const GemmConfig& config, cudaStream_t stream) {
  if constexpr (kShape < std::size(kShapes)) {
    constexpr TileShape shape = kShapes[kShape];
    if constexpr (exists(shape, kOutliers, Weights::kCodeBits == 4)) {
      if (config.outputs == shape.outputs() && config.tokens == shape.tokens())
        return launch_tile<Weights, Tile<Weights, shape, kOutliers>>(problem, stream);
    }
    launch_shape<Weights, kOutliers, kShape + 1>(problem, config, stream);
  }
}

template <class Weights>
void launch_weights(const GemmProblem& problem, const GemmConfig& config, cudaStream_t stream) {
  return problem.adds_outliers() ? launch_shape<Weights, true>(problem, config, stream)
                                 : launch_shape<Weights, false>(problem, config, stream);
}

}  // namespace

void launch(const GemmProblem& problem, const GemmConfig& config, cudaStream_t stream) {
  const WeightLayout layout = problem.weights.layout;
  if (config.family == KernelFamily::kSm80Int4)
    return launch_weights<PackedInt4Weights>(problem, config, stream);
  if (layout.bits == 8) return launch_weights<Int8Weights>(problem, config, stream);
  switch (layout.group_size) {
    case 0:
      return launch_weights<Int4Weights>(problem, config, stream);
    case 32:
      return launch_weights<GroupedWeights<32>>(problem, config, stream);
    case 64:
      return launch_weights<GroupedWeights<64>>(problem, config, stream);
    default:
      return launch_weights<GroupedWeights<128>>(problem, config, stream);
  }
}

}  // namespace tessera::cuda::sm80
