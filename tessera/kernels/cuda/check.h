// Turns CUDA error codes into exceptions.
#pragma once

#include <cuda_runtime.h>

namespace tessera::cuda {

/// Throws Error("CUDA: WHAT: REASON") unless `status` is cudaSuccess.
void check(cudaError_t status, const char* what);

}  // namespace tessera::cuda
