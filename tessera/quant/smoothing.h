// Adaptive smoothing: channel scales that touch only outliers, chosen by what they do to the quantized output
// ("QQQ", after Outlier Suppression+).
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace tessera {

/// max(1, absmax[j] / sigma): channels up to sigma stay as they are.
at::Tensor smoothing_scale(const at::Tensor& channel_absmax, double sigma);

struct SigmaGrid {
  /// true: sigma falls linearly from the largest absmax to 0.1 in max(100, absmax / 0.5) steps ("QQQ").
  /// false: `points` geometric steps down to `floor` times the largest absmax (or the least channel's absmax,
  /// below which nothing changes any more), then `points` / 4 finer ones on both sides of the best.
  bool linear = false;
  int64_t points = 12;
  double floor = 1e-3;
};

struct Smoothing {
  double sigma = 0;
  at::Tensor scale;            ///< [K], all >= 1
  double loss = 0;             ///< at sigma
  double unsmoothed_loss = 0;  ///< at scale 1
  int64_t evaluations = 0;
};

/// Searches sigma for a site with channel maxima [K]. `loss` is the output error for channel scales [K]. No
/// smoothing is always a candidate and wins ties.
Smoothing search_smoothing(const at::Tensor& channel_absmax,
                           const std::function<double(const at::Tensor& scale)>& loss, const SigmaGrid& grid);

}  // namespace tessera
