// Instantiates the sm_90a GEMM for GroupedWeights<128>.
#include "tessera/kernels/cuda/sm90a/gemm_launch.cuh"

namespace tessera::cuda {

void launch_sm90a_grouped128(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                             bool overlap_previous, cudaStream_t stream) {
  launch_layout<GroupedWeights<128>>(problem, maps, config, overlap_previous, stream);
}

}  // namespace tessera::cuda
