// Launching a kernel with what the runtime's <<<>>> cannot say.
#pragma once

#include <cstdint>

#include "tessera/kernels/cuda/check.h"

namespace tessera::cuda {

struct LaunchShape {
  int64_t blocks = 1, blocks_y = 1;
  int threads = 128;
  int shared = 0;  ///< dynamic bytes
  cudaStream_t stream = nullptr;
  bool overlap_previous = false;  ///< see LaunchOptions of gemm.h
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape, const Arguments&... arguments) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.blocks_y));
  config.blockDim = static_cast<unsigned>(shape.threads);
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared);
  config.stream = shape.stream;
  config.attrs = &attribute;
  config.numAttrs =
      shape.overlap_previous && device_attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? 1 : 0;
  if (shape.shared > 48 * 1024) {  // never lowered: a recorded step may need what an earlier launch did
    cudaFuncAttributes limits;
    check(cudaFuncGetAttributes(&limits, kernel), "cudaFuncGetAttributes");
    if (limits.maxDynamicSharedSizeBytes < shape.shared) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shape.shared),
            "cudaFuncSetAttribute");
    }
  }
  check(cudaLaunchKernelEx(&config, kernel, arguments...), "launch of a kernel");
}

}  // namespace tessera::cuda
