// Launch of the kernels for compute capability 8.0 and later, every layout and tile.
#include "tessera/kernels/cuda/sm80/gemm.h"

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
  params.row_blocks = static_cast<int>(ceil_div(problem.weights.n, kBlockRows));
  params.order = {static_cast<int>(ceil_div(problem.m, T::kTokens)),
                  static_cast<int>(ceil_div(problem.weights.n, T::kRows))};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(params.order.token_tiles * params.order.row_tiles);
  config.blockDim = T::kThreads;
  config.dynamicSmemBytes = T::kSharedBytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, params), "launch of the sm_80 integer GEMM");
}

template <class Weights>
void launch_layout(const GemmProblem& problem, const GemmConfig& config, cudaStream_t stream) {
  switch (config.rows) {
    case 32:
      return launch_tile<Weights, Tile<Weights, 1, 1, 8, 2>>(problem, stream);
    case 64:
      return launch_tile<Weights, Tile<Weights, 2, 2, 2, 4>>(problem, stream);
    default:
      return launch_tile<Weights, Tile<Weights, 4, 2, 1, 8>>(problem, stream);
  }
}

}  // namespace

void launch(const GemmProblem& problem, const GemmConfig& config, cudaStream_t stream) {
  const WeightLayout layout = problem.weights.layout;
  if (layout.bits == 8) return launch_layout<Int8Weights>(problem, config, stream);
  switch (layout.group_size) {
    case 0:
      return launch_layout<Int4Weights>(problem, config, stream);
    case 32:
      return launch_layout<GroupedWeights<32>>(problem, config, stream);
    case 64:
      return launch_layout<GroupedWeights<64>>(problem, config, stream);
    default:
      return launch_layout<GroupedWeights<128>>(problem, config, stream);
  }
}

}  // namespace tessera::cuda::sm80
