// Pages of keys and values on the device, and the steps recorded over them.
#pragma once

#include <map>

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/backend/device_memory.h"
#include "tessera/kernels/cuda/backend/step_graph.h"
#include "tessera/kernels/kv_pool.h"

namespace tessera::cuda {

class CudaKvPool : public KvPool {
 public:
  /// Throws Error when attention does not run such heads, or memory does not suffice.
  CudaKvPool(const KvShape& shape, int64_t pages);

  KvPages layer(int64_t layer) const;

  /// Graphs by their number of rows and of blocks of attention; valid as long as the memory of `generation`.
  struct Graphs {
    int64_t generation = 0;
    std::map<std::pair<int64_t, int64_t>, std::unique_ptr<StepGraph>>
        by_size;  ///< null: has run once, to be recorded next
  } graphs;

 private:
  DeviceBuffer memory_;
};

}  // namespace tessera::cuda
