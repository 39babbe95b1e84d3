// Random integer layers and inputs, for tests and benchmarks.
#pragma once

#include <optional>
#include <vector>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// Normally distributed.
std::vector<float> random_floats(int64_t count, unsigned seed, float sigma = 1.0f);

/// What is wanted of a layer. Codes are random over their whole range, but for groups whose scale leaves no
/// room for some, unless `extreme` is set.
struct LayerOptions {
  WeightFormat format = WeightFormat::kInt4;
  int64_t n = 32, k = 64, group_size = 0;
  ActivationFormat activation = {};
  bool group_zeros = false, bias = false;
  int64_t outliers = 0;
  bool repeat = false;  ///< columns that stand for several
  /// When set, all codes have this value (the nibble's, for 4 bits).
  std::optional<int> extreme = {};
};

/// A valid layer.
QuantizedLinear random_layer(const LayerOptions& options, unsigned seed);

}  // namespace tessera
