// Progress of a run whose blocks (or groups of blocks) cost the same, but whose steps inside one do not.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/base/stopwatch.h"

namespace tessera {

/// Reports thousandths of blocks. How a group's time divides over its steps is taken from the group before.
class ProgressMeter {
 public:
  ProgressMeter(Reporter& reporter, int64_t n_groups, int64_t finished_groups, int64_t group_blocks,
                size_t steps)
      : reporter_(reporter),
        n_groups_(n_groups),
        group_(finished_groups),
        group_blocks_(group_blocks),
        seconds_(steps, 1.0) {
    report(0);
  }

  /// One more step of the group in hand is finished.
  void finish_step() {
    current_.push_back(step_.seconds());
    step_ = {};
    if (current_.size() >= seconds_.size()) return;
    const auto end = seconds_.begin() + static_cast<std::ptrdiff_t>(current_.size());
    const double share =
        std::accumulate(seconds_.begin(), end, 0.0) / std::accumulate(seconds_.begin(), seconds_.end(), 0.0);
    report(static_cast<int64_t>(share * kUnits));
  }

  void finish_group() {
    seconds_ = std::exchange(current_, {});
    ++group_;
    report(0);
  }

 private:
  static constexpr int64_t kUnits = 1000;

  void report(int64_t units) {
    reporter_.progress("quantizing, thousandths of a block", (group_ * kUnits + units) * group_blocks_,
                       n_groups_ * kUnits * group_blocks_);
  }

  Reporter& reporter_;
  int64_t n_groups_, group_, group_blocks_;
  std::vector<double> seconds_, current_;
  Stopwatch step_;
};

}  // namespace tessera
