// Instantiates the kernel for few tokens with outliers, for the weights of QUIK.
#include "tessera/kernels/cuda/sm90a/stream_launch.cuh"

namespace tessera::cuda {

void launch_sm90a_int4_outliers(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                                bool overlap_previous, cudaStream_t stream) {
  launch_stream<Int4Weights, true>(problem, maps, config, overlap_previous, stream);
}

void launch_sm90a_int8_outliers(const GemmProblem& problem, const TensorMaps& maps, const GemmConfig& config,
                                bool overlap_previous, cudaStream_t stream) {
  launch_stream<Int8Weights, true>(problem, maps, config, overlap_previous, stream);
}

}  // namespace tessera::cuda
