// Channel scales that move outliers from activations into weights: given by rule, or searched by what they do
// to the quantized output.
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace tessera {

constexpr int kAwqSteps = 20;  ///< exponents that the search tries ("AWQ")

/// max(1, absmax[j] / sigma): channels up to sigma stay as they are.
at::Tensor smoothing_scale(const at::Tensor& channel_absmax, double sigma);

/// The smoothing_scale under which int(fraction * K + 0.5) channels change (ties aside), those above the
/// largest of the others; ones where that is below 1e-4 ("DGQ", percentile clipping smoothing; fraction
/// 0.005).
at::Tensor percentile_scale(const at::Tensor& channel_absmax, double fraction);

/// absmax[j]^alpha / weight_absmax[j]^(1 - alpha): moves the part alpha of the difficulty ("SmoothQuant").
at::Tensor smoothquant_scale(const at::Tensor& channel_absmax, const at::Tensor& weight_absmax, double alpha);

/// mean[j]^exponent, scaled so that the smallest times the largest is 1 ("AWQ").
at::Tensor awq_scale(const at::Tensor& channel_mean, double exponent);

struct SigmaGrid {
  /// true: sigma falls linearly from the largest absmax to 0.1 in max(100, absmax / 0.5) steps ("QQQ").
  /// false: `points` geometric steps down to `floor` times the largest absmax (or the least channel's absmax,
  /// below which nothing changes any more), then `points` / 4 finer ones on both sides of the best.
  bool linear = false;
  int64_t points = 12;
  double floor = 1e-3;
};

/// The output error for channel scales [K].
using ScaleLoss = std::function<double(const at::Tensor& scale)>;

struct Smoothing {
  double parameter = 0;        ///< sigma or exponent
  at::Tensor scale;            ///< [K]
  double loss = 0;             ///< at scale
  double unsmoothed_loss = 0;  ///< at scale 1
  int64_t evaluations = 0;
};

/// Searches sigma for a site with channel maxima [K] ("QQQ", after Outlier Suppression+). No smoothing is
/// always a candidate and wins ties.
Smoothing search_smoothing(const at::Tensor& channel_absmax, const ScaleLoss& loss, const SigmaGrid& grid);

/// Searches the exponent of awq_scale in 0, 0.05, ... 0.95 for mean magnitudes [K] ("AWQ").
Smoothing search_awq(const at::Tensor& channel_mean, const ScaleLoss& loss);

}  // namespace tessera
