// Random integer layers.
#include "tessera/format/random_layer.h"

#include <algorithm>
#include <random>
#include <span>

#include "tessera/format/reference.h"

namespace tessera {
namespace {

using Rng = std::mt19937;

int random_int(Rng& rng, int lo, int hi) {
  return lo + static_cast<int>(rng() % static_cast<unsigned>(hi - lo + 1));
}

std::vector<int8_t> random_codes(const LayerOptions& options, Rng& rng) {
  const bool bytes = options.format == WeightFormat::kInt8;
  std::vector<int8_t> codes(static_cast<size_t>(options.n * options.k));
  for (int8_t& c : codes) {
    c = static_cast<int8_t>(options.extreme ? *options.extreme
                            : bytes         ? random_int(rng, -127, 127)
                                            : random_int(rng, 0, 15));
  }
  return codes;
}

/// Scales that take some codes out of int8; such codes are moved to the last that stays.
void fill_groups(QuantizedLinear& l, const LayerOptions& options, Rng& rng, std::span<int8_t> codes) {
  l.group_size = options.group_size;
  const auto count = static_cast<size_t>(l.n * l.groups());
  std::vector<int8_t> scale(count);
  std::vector<Half> float_scale(count);
  std::vector<uint8_t> zero(count);
  for (size_t i = 0; i < count; ++i) {
    float_scale[i] = to_half(static_cast<float>(random_int(rng, 1, 999)) * 0.008f);
    const int z = options.group_zeros ? random_int(rng, 0, 15) : 8;
    // The largest scale that keeps scale * (u - zero) within int8 for every u.
    const int most = std::min({127, 128 / std::max(z, 1), 127 / std::max(15 - z, 1)});
    const int s = options.extreme ? most : random_int(rng, 1, std::min(127, 2 * most));
    zero[i] = static_cast<uint8_t>(z);
    scale[i] = static_cast<int8_t>(s);
    if (options.format == WeightFormat::kUint4Float) continue;
    for (int8_t& c : codes.subspan(i * static_cast<size_t>(l.group_size), static_cast<size_t>(l.group_size)))
      c = static_cast<int8_t>(std::clamp<int>(c, z - 128 / s, z + 127 / s));
  }
  l.group_scale = l.weight_format == WeightFormat::kUint4Float
                      ? Tensor::from<Half>(float_scale, {l.n, l.groups()})
                      : Tensor::from<int8_t>(scale, {l.n, l.groups()});
  if (options.group_zeros) l.group_zero = Tensor::from<uint8_t>(zero, {l.n, l.groups()});
}

void fill_row_sums(QuantizedLinear& l) {
  std::vector<int32_t> sums(static_cast<size_t>(l.n));
  std::vector<int8_t> w8(static_cast<size_t>(l.k));
  for (int64_t n = 0; n < l.n; ++n) {
    expand_row(l, n, w8);
    for (int8_t w : w8) sums[static_cast<size_t>(n)] += w;
  }
  l.row_sum = Tensor::from<int32_t>(sums, {l.n});
}

void fill_outliers(QuantizedLinear& l, int64_t count, Rng& rng) {
  std::vector<int32_t> columns(static_cast<size_t>(l.k + count));
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<int32_t>(i);
  std::shuffle(columns.begin(), columns.end(), rng);
  columns.resize(static_cast<size_t>(count));
  std::sort(columns.begin(), columns.end());
  l.outlier_index = Tensor::from<int32_t>(columns, {count});
  std::vector<Half> weights;
  for (int64_t i = 0; i < l.n * count; ++i) {
    weights.push_back(to_half(static_cast<float>(random_int(rng, -999, 999)) * 1e-4f));
  }
  l.outlier_weight = Tensor::from<Half>(weights, {l.n, count});
}

void fill_repeats(QuantizedLinear& l, Rng& rng) {
  const int bits = l.activation.bits, largest_code = (1 << (l.activation.symmetric ? bits - 1 : bits)) - 1;
  std::vector<uint8_t> repeat(static_cast<size_t>(l.k));
  for (uint8_t& r : repeat) r = static_cast<uint8_t>(random_int(rng, 1, 127 / largest_code));
  l.input_repeat = Tensor::from<uint8_t>(repeat, {l.k});
}

}  // namespace

std::vector<float> random_floats(int64_t count, unsigned seed, float sigma) {
  Rng rng(seed);
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = normal(rng);
  return x;
}

QuantizedLinear random_layer(const LayerOptions& options, unsigned seed) {
  Rng rng(seed);
  QuantizedLinear l;
  l.n = options.n;
  l.k = options.k;
  l.weight_format = options.format;
  l.activation = options.activation;
  std::vector<int8_t> codes = random_codes(options, rng);
  std::vector<float> scale;
  for (int64_t n = 0; n < l.n; ++n) scale.push_back(static_cast<float>(random_int(rng, 100, 999)) * 1e-5f);
  l.scale = Tensor::from<float>(scale, {l.n});
  if (l.weight_format == WeightFormat::kUint4Grouped || l.weight_format == WeightFormat::kUint4Float)
    fill_groups(l, options, rng, codes);
  l.qweight = l.weight_format == WeightFormat::kInt8 ? Tensor::from<int8_t>(codes, {l.n, l.k})
                                                     : pack_int4(codes, l.n, l.k);
  if (options.repeat) fill_repeats(l, rng);
  if (l.has_zero_point()) fill_row_sums(l);
  if (!l.activation.per_token) l.input_scale = Tensor::from<float>(std::vector<float>{0.02f}, {1});
  if (options.bias) l.bias = Tensor::from<float>(random_floats(l.n, seed + 1), {l.n});
  if (options.outliers > 0) fill_outliers(l, options.outliers, rng);
  l.validate("random layer");
  return l;
}

}  // namespace tessera
