// CUDA error codes as exceptions, and what the device is like.
#pragma once

#include <cuda_runtime.h>

namespace tessera::cuda {

/// Throws Error("CUDA: WHAT: REASON") unless `status` is cudaSuccess.
void check(cudaError_t status, const char* what);

/// An attribute of the current device.
int device_attribute(cudaDeviceAttr what);

}  // namespace tessera::cuda
