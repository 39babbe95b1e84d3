// cuBLAS, found when it is needed: float models alone use it, and programs without it must start.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "tessera/kernels/cuda/backend/device_memory.h"

namespace tessera::cuda {

class Cublas {
 public:
  /// Throws Error when the library is not there, saying how to get it.
  explicit Cublas(cudaStream_t stream);
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  /// out [m, n] (half, or float with `float_out`) = x [m, k] * weights [n, k]^T, + out with `accumulate`;
  /// half, sums in float. Strides in elements.
  void gemm(int64_t m, int64_t n, int64_t k, const void* weights, const void* x, int64_t x_stride, void* out,
            int64_t out_stride, bool float_out, bool accumulate) const;

 private:
  struct Library;
  std::unique_ptr<Library> library_;
  DeviceBuffer workspace_;
};

}  // namespace tessera::cuda
