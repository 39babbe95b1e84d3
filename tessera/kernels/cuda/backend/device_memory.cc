// Memory.
#include "tessera/kernels/cuda/backend/device_memory.h"

#include <algorithm>
#include <cassert>

#include "tessera/base/error.h"
#include "tessera/kernels/cuda/check.h"

namespace tessera::cuda {

// What the default stream does, a copy from pageable memory included, may return before it is done, and the
// backend's stream does not wait for it: hence the synchronization.

DeviceBuffer::DeviceBuffer(size_t bytes) : bytes_(bytes) {
  const cudaError_t status = cudaMalloc(&data_, std::max<size_t>(bytes, 16));
  if (status == cudaErrorMemoryAllocation) {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    throw Error(
        "the GPU has {:.1f} of {:.1f} GB free, {:.1f} GB are needed at once; use a smaller model, fewer "
        "or shorter sequences, or a --kv-bits of 8 or 4",
        static_cast<double>(free) / 1e9, static_cast<double>(total) / 1e9, static_cast<double>(bytes) / 1e9);
  }
  check(status, "cudaMalloc");
  check(cudaMemset(data_, 0, bytes), "cudaMemset");
  check(cudaStreamSynchronize(nullptr), "cudaMemset");
}

DeviceBuffer::~DeviceBuffer() {
  cudaFree(data_);
}

void copy_to_device(const void* from, size_t bytes, DeviceBuffer& to) {
  assert(bytes <= to.bytes());
  check(cudaMemcpy(to.data(), from, bytes, cudaMemcpyHostToDevice), "copy to the device");
  check(cudaStreamSynchronize(nullptr), "copy to the device");
}

PinnedBuffer::PinnedBuffer(size_t bytes) : bytes_(bytes) {
  check(cudaMallocHost(&data_, std::max<size_t>(bytes, 16)), "cudaMallocHost");
}

PinnedBuffer::~PinnedBuffer() {
  cudaFreeHost(data_);
}

}  // namespace tessera::cuda
