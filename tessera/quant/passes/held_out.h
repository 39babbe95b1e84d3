// Calibration windows that are trained on, and those that choose among the states that training comes by.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>

namespace tessera {

/// Of `windows` calibration windows, at least two, every eighth is kept apart, or the last one.
class HeldOutWindows {
 public:
  HeldOutWindows(int64_t windows, const at::Device& device) {
    const at::Tensor all = at::arange(windows, at::kLong),
                     last = all.remainder(kHeldOut) == std::min(kHeldOut, windows) - 1;
    judged_ = all.masked_select(last).to(device);
    trained_ = all.masked_select(last.logical_not());
  }

  /// int64 indices, on the device.
  const at::Tensor& judged() const { return judged_; }
  /// At most `count` of the others, drawn anew.
  at::Tensor draw(int64_t count, at::Generator& generator) const {
    const at::Tensor order = at::randperm(trained_.size(0), generator, at::kLong);
    return trained_.index_select(0, order.slice(0, 0, count)).to(judged_.device());
  }

 private:
  static constexpr int64_t kHeldOut = 8;

  at::Tensor judged_, trained_;
};

}  // namespace tessera
