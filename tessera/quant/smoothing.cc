// The search for sigma.
#include "tessera/quant/smoothing.h"

#include <cmath>
#include <vector>

namespace tessera {
namespace {

constexpr double kLinearFloor = 0.1;  ///< "QQQ"

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

}  // namespace

at::Tensor smoothing_scale(const at::Tensor& channel_absmax, double sigma) {
  return (channel_absmax / sigma).clamp_min_(1);
}

Smoothing search_smoothing(const at::Tensor& channel_absmax,
                           const std::function<double(const at::Tensor& scale)>& loss,
                           const SigmaGrid& grid) {
  const double hi = channel_absmax.max().item<double>(), least = channel_absmax.min().item<double>();
  const at::Tensor none = at::ones_like(channel_absmax);
  Smoothing best{hi, none, loss(none), 0, 1};
  best.unsmoothed_loss = best.loss;
  const auto try_sigmas = [&](const std::vector<double>& sigmas) {
    for (double sigma : sigmas) {
      const at::Tensor scale = smoothing_scale(channel_absmax, sigma);
      const double candidate = loss(scale);
      ++best.evaluations;
      if (candidate < best.loss) {
        best.loss = candidate;
        best.sigma = sigma;
        best.scale = scale;
      }
    }
  };
  if (grid.linear) {
    if (hi >= kLinearFloor) try_sigmas(linear_grid(hi));
    return best;
  }
  const double lo = std::max(least, hi * grid.floor);
  if (!(lo < hi)) return best;
  try_sigmas(geometric_between(hi, lo, grid.points));
  try_sigmas({lo});
  const double ratio = std::pow(lo / hi, 1.0 / static_cast<double>(grid.points + 1)), coarse = best.sigma;
  try_sigmas(geometric_between(std::min(hi, coarse / ratio), coarse, grid.points / 4));
  try_sigmas(geometric_between(coarse, std::max(lo, coarse * ratio), grid.points / 4));
  return best;
}

}  // namespace tessera
