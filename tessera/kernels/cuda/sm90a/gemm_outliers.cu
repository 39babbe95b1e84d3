// Instantiates the sm_90a kernels with outliers for the weights of QUIK.
#include "tessera/kernels/cuda/sm90a/gemm_launch.cuh"

namespace tessera::cuda {

void launch_sm90a_int4_outliers(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                                bool overlap_previous, cudaStream_t stream) {
  launch_layout<Int4Weights, true>(problem, maps, config, overlap_previous, stream);
}

void launch_sm90a_int8_outliers(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                                bool overlap_previous, cudaStream_t stream) {
  launch_layout<Int8Weights, true>(problem, maps, config, overlap_previous, stream);
}

}  // namespace tessera::cuda
