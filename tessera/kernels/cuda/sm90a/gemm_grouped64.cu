// Instantiates the sm_90a GEMM for GroupedWeights<64>.
#include "tessera/kernels/cuda/sm90a/gemm_launch.cuh"

namespace tessera::cuda {

void launch_sm90a_grouped64(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                            bool overlap_previous, cudaStream_t stream) {
  launch_layout<GroupedWeights<64>>(problem, maps, config, overlap_previous, stream);
}

}  // namespace tessera::cuda
