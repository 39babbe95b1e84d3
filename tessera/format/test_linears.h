// Random layers for the tests of the format.
#pragma once

#include <random>
#include <vector>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// A valid random layer of the given format.
inline QuantizedLinear random_linear(WeightFormat format, int64_t n, int64_t k, int64_t group_size,
                                     unsigned seed) {
  std::mt19937 rng(seed);
  QuantizedLinear l;
  l.n = n;
  l.k = k;
  l.weight_format = format;
  std::vector<int8_t> codes(static_cast<size_t>(n * k));
  if (format == WeightFormat::kInt8) {
    for (int8_t& c : codes) c = static_cast<int8_t>(static_cast<int>(rng() % 255) - 127);
    l.qweight = Tensor::from<int8_t>(codes, {n, k});
  } else {
    for (int8_t& c : codes) c = static_cast<int8_t>(rng() % 16);
    l.qweight = pack_int4(codes, n, k);
  }
  if (format == WeightFormat::kUint4Grouped) {
    l.group_size = group_size;
    std::vector<int8_t> scales(static_cast<size_t>(n * k / group_size));
    for (int8_t& s : scales) s = static_cast<int8_t>(1 + rng() % 15);
    l.group_scale = Tensor::from<int8_t>(scales, {n, k / group_size});
  }
  std::vector<float> scale(static_cast<size_t>(n));
  for (float& s : scale) s = 0.001f + static_cast<float>(rng() % 1000) * 1e-5f;
  l.scale = Tensor::from<float>(scale, {n});
  return l;
}

}  // namespace tessera
