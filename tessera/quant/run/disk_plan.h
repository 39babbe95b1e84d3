// How much room a run needs on the disk, known before it starts.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tessera/quant/passes/pass.h"

namespace tessera {

/// Bytes on the disk.
struct DiskPlan {
  uint64_t result = 0;   ///< the weights of the finished checkpoint
  uint64_t beside = 0;   ///< a shard that is being written, or all, where they become one file
  uint64_t streams = 0;  ///< activations between blocks: those of two blocks exist for a moment

  uint64_t total() const { return result + beside + streams; }
};

/// For calibration with `windows` x `tokens` tokens; an upper bound.
DiskPlan plan_disk(const ModelSpec& spec, const Checkpoint& checkpoint,
                   const PerLinear<LinearScheme>& schemes, const std::vector<std::unique_ptr<Pass>>& passes,
                   int64_t windows, int64_t tokens, bool rounds_lm_head = false);

}  // namespace tessera
