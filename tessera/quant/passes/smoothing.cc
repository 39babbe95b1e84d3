// Scales by rule, and the search over them.
#include "tessera/quant/passes/smoothing.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tessera {
namespace {

constexpr double kLinearFloor = 0.1;     ///< "QQQ"
constexpr double kLeastBase = 1e-4;      ///< "DGQ"
constexpr double kLeastAbsmax = 1e-5;    ///< "SmoothQuant"
constexpr double kLeastAwqScale = 1e-4;  ///< "AWQ"

std::vector<double> linear_grid(double hi) {
  std::vector<double> sigmas;
  const int steps = static_cast<int>(std::max(100.0, std::floor(hi / 0.5)));
  for (int i = 0; i <= steps; ++i) {
    sigmas.push_back(hi - (hi - kLinearFloor) * i / steps);
  }
  return sigmas;
}

/// `count` values between first and last, both excluded.
std::vector<double> geometric_between(double first, double last, int64_t count) {
  std::vector<double> values;
  for (int64_t i = 1; i <= count; ++i) {
    const double part = static_cast<double>(i) / static_cast<double>(count + 1);
    values.push_back(first * std::pow(last / first, part));
  }
  return values;
}

/// Keeps the best of the scales that it is shown.
class BestScale {
 public:
  BestScale(const at::Tensor& none, double parameter, const ScaleLoss& loss) : loss_(loss) {
    const double unsmoothed = loss(none);
    best_ = {parameter, none, unsmoothed, unsmoothed, 1};
  }
  void offer(double parameter, const at::Tensor& scale) {
    const double loss = loss_(scale);
    ++best_.evaluations;
    if (!(loss < best_.loss)) return;
    best_.loss = loss;
    best_.parameter = parameter;
    best_.scale = scale;
  }
  const Smoothing& best() const { return best_; }

 private:
  const ScaleLoss& loss_;
  Smoothing best_;
};

}  // namespace

at::Tensor smoothing_scale(const at::Tensor& channel_absmax, double sigma) {
  return (channel_absmax / sigma).clamp_min_(1);
}

at::Tensor percentile_scale(const at::Tensor& channel_absmax, double fraction) {
  const int64_t k = channel_absmax.size(0);
  const int64_t rank = std::min(k, static_cast<int64_t>(fraction * static_cast<double>(k) + 1.5));
  const double base = std::get<0>(channel_absmax.sort(0, /*descending=*/true))[rank - 1].item<double>();
  return base < kLeastBase ? at::ones_like(channel_absmax) : smoothing_scale(channel_absmax, base);
}

at::Tensor smoothquant_scale(const at::Tensor& channel_absmax, const at::Tensor& weight_absmax,
                             double alpha) {
  return channel_absmax.clamp_min(kLeastAbsmax)
      .pow(alpha)
      .div_(weight_absmax.clamp_min(kLeastAbsmax).pow(1 - alpha))
      .clamp_min_(kLeastAbsmax);
}

at::Tensor awq_scale(const at::Tensor& channel_mean, double exponent) {
  const at::Tensor scale = channel_mean.pow(exponent).clamp_min_(kLeastAwqScale);
  return scale / (scale.max() * scale.min()).sqrt();
}

Smoothing search_smoothing(const at::Tensor& channel_absmax, const ScaleLoss& loss, const SigmaGrid& grid) {
  const double hi = channel_absmax.max().item<double>(), least = channel_absmax.min().item<double>();
  BestScale search(at::ones_like(channel_absmax), hi, loss);
  const auto try_sigmas = [&](const std::vector<double>& sigmas) {
    for (double sigma : sigmas) search.offer(sigma, smoothing_scale(channel_absmax, sigma));
  };
  if (grid.linear) {
    if (hi >= kLinearFloor) try_sigmas(linear_grid(hi));
    return search.best();
  }
  const double lo = std::max(least, hi * grid.floor);
  if (!(lo < hi)) return search.best();
  try_sigmas(geometric_between(hi, lo, grid.points));
  try_sigmas({lo});
  const double ratio = std::pow(lo / hi, 1.0 / static_cast<double>(grid.points + 1)),
               coarse = search.best().parameter;
  try_sigmas(geometric_between(std::min(hi, coarse / ratio), coarse, grid.points / 4));
  try_sigmas(geometric_between(coarse, std::max(lo, coarse * ratio), grid.points / 4));
  return search.best();
}

Smoothing search_awq(const at::Tensor& channel_mean, const ScaleLoss& loss) {
  BestScale search(at::ones_like(channel_mean), 0, loss);
  for (int i = 1; i < kAwqSteps; ++i) {
    const double exponent = static_cast<double>(i) / kAwqSteps;
    search.offer(exponent, awq_scale(channel_mean, exponent));
  }
  return search.best();
}

}  // namespace tessera
