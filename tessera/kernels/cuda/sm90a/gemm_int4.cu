// Instantiates the sm_90a GEMM for Int4Weights.
#include "tessera/kernels/cuda/sm90a/gemm_launch.cuh"

namespace tessera::cuda {

void launch_sm90a_int4(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                       bool overlap_previous, cudaStream_t stream) {
  launch_layout<Int4Weights>(problem, maps, config, overlap_previous, stream);
}

}  // namespace tessera::cuda
