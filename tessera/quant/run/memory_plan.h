// How much memory a run will need, known before it starts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tessera/quant/passes/pass.h"

namespace tessera {

/// Bytes in memory at the run's peak.
struct MemoryPlan {
  size_t earlier_peak = 0;  ///< of the process, before the run
  size_t baseline = 0;      ///< what the process holds now, and what its libraries take as they warm up
  size_t weights = 0;       ///< one block: float parameters and codes
  size_t activations = 0;   ///< both streams
  size_t workspace = 0;     ///< of the hungriest step

  /// What the run adds to the process as it is now.
  size_t added() const { return weights + activations + workspace; }
  size_t peak() const { return std::max(earlier_peak, baseline + added()); }

  /// "predicted peak memory 1234 MB (...)"
  std::string to_string() const;
};

/// For calibration with `windows` x `tokens` tokens on the CPU; both may be 0.
MemoryPlan plan_memory(const ModelSpec& spec, const Checkpoint& checkpoint,
                       const std::vector<std::unique_ptr<Pass>>& passes, int64_t windows, int64_t tokens,
                       bool rounds_lm_head = false);

}  // namespace tessera
