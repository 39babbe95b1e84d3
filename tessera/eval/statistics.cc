// Means, errors and percentiles of samples.
#include "tessera/eval/statistics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace tessera {

MeanError mean_error(std::span<const double> values) {
  assert(!values.empty());
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double square = 0;
  for (double v : values) square += (v - mean) * (v - mean);
  return {mean, values.size() > 1 ? std::sqrt(square / (n - 1) / n) : 0.0};
}

Distribution distribution(std::vector<double> values) {
  const auto [mean, standard_error] = mean_error(values);
  std::sort(values.begin(), values.end());
  const auto percentile = [&](double share) {
    return values[static_cast<size_t>(std::ceil(share * static_cast<double>(values.size()))) - 1];
  };
  return {mean, standard_error, percentile(0.5), percentile(0.99), values.back()};
}

}  // namespace tessera
