// Drawing the next tokens of a step.
#pragma once

#include <memory>
#include <span>

#include "tessera/kernels/cuda/backend/device_memory.h"
#include "tessera/kernels/rows.h"
#include "tessera/kernels/sampling.h"

namespace tessera::cuda {

class CudaSampler {
 public:
  explicit CudaSampler(int64_t max_rows);

  /// ids[i] drawn from row i of float `logits`, in which the edits are made. Waits for the device.
  void sample(const Rows& logits, std::span<const Draw> draws, std::span<int32_t> ids, cudaStream_t stream);

 private:
  DeviceBuffer draws_, ids_;
  PinnedBuffer staged_draws_, staged_ids_;
  std::unique_ptr<DeviceBuffer> edits_;  ///< grows
  std::unique_ptr<PinnedBuffer> staged_edits_;
};

}  // namespace tessera::cuda
