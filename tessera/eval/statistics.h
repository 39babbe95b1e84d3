// Means, errors and percentiles of samples.
#pragma once

#include <span>
#include <vector>

namespace tessera {

struct MeanError {
  double mean = 0;
  double standard_error = 0;  ///< sample deviation / sqrt(n); 0 for a single value
};
/// `values` must not be empty.
MeanError mean_error(std::span<const double> values);

struct Distribution {
  double mean = 0, standard_error = 0, median = 0, percentile_99 = 0, max = 0;
};
/// Percentiles are values of the sample (nearest rank). `values` must not be empty.
Distribution distribution(std::vector<double> values);

}  // namespace tessera
