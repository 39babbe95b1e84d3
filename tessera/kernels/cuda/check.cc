// Apart from its header because nvcc cannot compile fmt's checked format strings.
#include "tessera/kernels/cuda/check.h"

#include "tessera/base/error.h"

namespace tessera::cuda {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw Error("CUDA: {}: {}", what, cudaGetErrorString(status));
}

int device_attribute(cudaDeviceAttr what) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&value, what, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace tessera::cuda
