// How much memory a run will need, known before it starts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tessera/quant/pass.h"

namespace tessera {

/// Bytes in memory at the run's peak.
struct MemoryPlan {
  size_t baseline = 0;     ///< the process before the run, and what its libraries take as they warm up
  size_t weights = 0;      ///< one block: float, codes, and the float copy that simulates the codes
  size_t activations = 0;  ///< both streams
  size_t workspace = 0;    ///< of the hungriest step
  size_t peak() const { return baseline + weights + activations + workspace; }

  /// "predicted peak memory 1234 MB: ..."
  std::string to_string() const;
};

/// For calibration with `windows` x `tokens` tokens on the CPU.
MemoryPlan plan_memory(const ModelSpec& spec, const Checkpoint& checkpoint,
                       const std::vector<std::unique_ptr<Pass>>& passes, int64_t windows, int64_t tokens);

}  // namespace tessera
