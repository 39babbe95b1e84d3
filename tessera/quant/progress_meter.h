// Progress of a run whose blocks cost the same, but whose steps inside a block do not.
#pragma once

#include <chrono>
#include <numeric>
#include <vector>

#include "tessera/base/reporter.h"

namespace tessera {

/// Reports permille of a block. How a block's time divides over its steps is taken from the block before.
class ProgressMeter {
 public:
  ProgressMeter(Reporter& reporter, int64_t n_blocks, int64_t finished_blocks, size_t steps)
      : reporter_(reporter), n_blocks_(n_blocks), block_(finished_blocks), seconds_(steps, 1.0) {
    report(0);
  }

  /// Step `step_` of the block in hand is finished.
  void finish_step() {
    current_.push_back(std::chrono::duration<double>(Clock::now() - step_start_).count());
    step_start_ = Clock::now();
    if (current_.size() < seconds_.size()) {
      const auto end = seconds_.begin() + static_cast<std::ptrdiff_t>(current_.size());
      const double share = std::accumulate(seconds_.begin(), end, 0.0) /
                           std::accumulate(seconds_.begin(), seconds_.end(), 0.0);
      return report(static_cast<int64_t>(share * kUnits));
    }
    seconds_ = std::exchange(current_, {});
    ++block_;
    report(0);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int64_t kUnits = 1000;

  void report(int64_t units) { reporter_.progress("quantize", block_ * kUnits + units, n_blocks_ * kUnits); }

  Reporter& reporter_;
  int64_t n_blocks_, block_;
  std::vector<double> seconds_, current_;
  Clock::time_point step_start_ = Clock::now();
};

}  // namespace tessera
