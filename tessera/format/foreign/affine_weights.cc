// Choosing the format that holds another tool's weights exactly.
#include "tessera/format/foreign/affine_weights.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <optional>

#include "tessera/base/dyadic.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"

namespace tessera::foreign {
namespace {

void check(const AffineWeights& w) {
  const auto finite = [](double scale) { return std::isfinite(scale); };
  if (!std::ranges::all_of(w.scales, finite)) throw Error("{}: a scale is not finite", w.where);
  const auto fits = [&](uint8_t zero) { return zero <= w.largest(); };
  if (!std::ranges::all_of(w.zeros, fits))
    throw Error("{}: a zero point is no code of {} bits", w.where, w.bits);
  if (w.groups < 1 || w.k % w.groups != 0)
    throw Error("{}: {} inputs are no {} groups of one size", w.where, w.k, w.groups);
  if (w.bits <= 4 && w.k % 2 != 0) throw Error("{}: K = {} is odd, 4-bit codes come in pairs", w.where, w.k);
}

/// Brings the inputs of a group together, in their order. Returns the input of each new column, or nothing
/// where nothing moves.
std::vector<int32_t> sort_inputs(AffineWeights& w) {
  const int64_t size = w.k / w.groups;
  std::vector<int32_t> order(static_cast<size_t>(w.k));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](int32_t i) { return w.input_group[static_cast<size_t>(i)]; });
  for (int64_t column = 0; column < w.k; ++column) {
    const auto input = static_cast<size_t>(order[static_cast<size_t>(column)]);
    if (w.input_group[input] == column / size) continue;
    throw Error("{}: g_idx does not spread {} inputs over {} groups of one size", w.where, w.k, w.groups);
  }
  if (std::ranges::is_sorted(order)) return {};
  parallel_for(w.n, [&](int64_t n) {
    const auto row = std::span(w.codes).subspan(static_cast<size_t>(n * w.k), static_cast<size_t>(w.k));
    const std::vector<uint8_t> original(row.begin(), row.end());
    for (size_t column = 0; column < row.size(); ++column)
      row[column] = original[static_cast<size_t>(order[column])];
  });
  return order;
}

void make_scales_positive(AffineWeights& w) {
  if (std::ranges::none_of(w.scales, [](double scale) { return scale < 0; })) return;
  if (w.zeros.empty()) w.zeros.assign(w.scales.size(), w.middle());
  const auto size = static_cast<size_t>(w.k / w.groups);
  for (size_t g = 0; g < w.scales.size(); ++g) {
    if (!(w.scales[g] < 0)) continue;
    w.scales[g] = -w.scales[g];
    w.zeros[g] = static_cast<uint8_t>(w.largest() - w.zeros[g]);
    for (uint8_t& code : std::span(w.codes).subspan(g * size, size))
      code = static_cast<uint8_t>(w.largest() - code);
  }
}

int zero_of(const AffineWeights& w, size_t group) {
  return w.zeros.empty() ? w.middle() : w.zeros[group];
}

bool has_zero_points(const AffineWeights& w) {
  return std::ranges::any_of(w.zeros, [&](uint8_t zero) { return zero != w.middle(); });
}

/// The codes as nibbles, less `offset`.
Tensor nibbles(const AffineWeights& w, int offset) {
  Tensor packed(DType::kU8, {w.n, w.k / 2});
  const auto out = packed.as<uint8_t>();
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = pack_nibbles(w.codes[2 * i] - offset, w.codes[2 * i + 1] - offset);
  return packed;
}

/// U8 [N, groups], or empty where all are 8.
Tensor zero_points(const AffineWeights& w) {
  std::vector<uint8_t> zeros = w.zeros;
  if (zeros.empty()) zeros.assign(w.scales.size(), w.middle());
  if (std::ranges::all_of(zeros, [](uint8_t zero) { return zero == 8; })) return {};
  return Tensor::from<uint8_t>(zeros, {w.n, w.groups});
}

/// int8 codes u - zero of one scale an output.
Tensor bytes(const AffineWeights& w) {
  Tensor out(DType::kI8, {w.n, w.k});
  const auto to = out.as<int8_t>();
  for (size_t i = 0; i < to.size(); ++i) {
    const int code = w.codes[i] - zero_of(w, i / static_cast<size_t>(w.k));
    if (code < -128 || code > 127) {
      throw Error("{}: {}-bit codes less their zero points leave int8; start from the float model", w.where,
                  w.bits);
    }
    to[i] = static_cast<int8_t>(code);
  }
  return out;
}

void fill_outputs(const AffineWeights& w, QuantizedLinear& l) {
  l.scale = Tensor(DType::kF32, {w.n});
  for (size_t n = 0; n < w.scales.size(); ++n) {
    const std::optional<float> scale = exactly<float>(w.scales[n]);
    if (!scale) throw Error("{}: the scale {} of output {} is no float32 number", w.where, w.scales[n], n);
    l.scale.as<float>()[n] = *scale;
  }
  if (w.bits > 4) {
    l.weight_format = WeightFormat::kInt8;
    l.qweight = bytes(w);
  } else if (!has_zero_points(w)) {
    l.weight_format = WeightFormat::kInt4;
    l.qweight = nibbles(w, w.middle());
  } else {
    l.weight_format = WeightFormat::kUint4Grouped;
    l.qweight = nibbles(w, 0);
    l.group_size = w.k;
    l.group_scale = Tensor::from<int8_t>(std::vector<int8_t>(w.scales.size(), 1), {w.n, 1});
    l.group_zero = zero_points(w);
  }
}

/// Scales of a layer in groups as one number an output times one a group.
template <class GroupScale>
struct SplitScales {
  std::vector<float> outputs;      ///< [N]
  std::vector<GroupScale> groups;  ///< [N, groups]
};

/// Positive numbers as small integers times one float, the largest such; nothing where they are none.
bool split_into_integers(std::span<const double> scales, float& unit, std::span<int8_t> integers) {
  constexpr int kMostDoublings = 6;  // 2^7 is beyond int8
  int exponent = std::numeric_limits<int>::max();
  for (double scale : scales) {
    if (!(scale > 0)) return false;
    exponent = std::min(exponent, Dyadic(scale).e);
  }
  const auto multiple = [&](double scale) {  // of 2^exponent
    const Dyadic exact(scale);
    return exact.e - exponent > kMostDoublings ? 0 : exact.m << (exact.e - exponent);
  };
  int64_t divisor = 0;
  for (double scale : scales) divisor = std::gcd(divisor, multiple(scale));
  for (size_t g = 0; g < scales.size(); ++g) {
    const int64_t integer = multiple(scales[g]) / divisor;
    if (integer < 1 || integer > 127) return false;
    integers[g] = static_cast<int8_t>(integer);
  }
  const std::optional<float> largest = exactly<float>(std::ldexp(static_cast<double>(divisor), exponent));
  unit = largest.value_or(0);
  return largest.has_value();
}

/// The integer-ratio test, also of the products. Nothing where one output fails.
std::optional<SplitScales<int8_t>> integer_scales(const AffineWeights& w) {
  SplitScales<int8_t> split{std::vector<float>(static_cast<size_t>(w.n)),
                            std::vector<int8_t>(w.scales.size())};
  const auto groups = static_cast<size_t>(w.groups), size = static_cast<size_t>(w.k / w.groups);
  for (size_t n = 0; n < split.outputs.size(); ++n) {
    const auto integers = std::span(split.groups).subspan(n * groups, groups);
    if (!split_into_integers(std::span(w.scales).subspan(n * groups, groups), split.outputs[n], integers))
      return {};
    for (size_t g = n * groups; g < (n + 1) * groups; ++g) {
      const auto [least, most] = std::ranges::minmax(std::span(w.codes).subspan(g * size, size));
      const int zero = zero_of(w, g), scale = split.groups[g];
      if (scale * (least - zero) < -128 || scale * (most - zero) > 127) return {};
    }
  }
  return split;
}

/// Halves times a power of two, 1 where the scales are halves already. Throws Error when some scale is none.
SplitScales<Half> float_scales(const AffineWeights& w) {
  constexpr int kLargestExponent = 15;  // halves end below 2^16
  SplitScales<Half> split{std::vector<float>(static_cast<size_t>(w.n), 1.0f),
                          std::vector<Half>(w.scales.size())};
  const auto groups = static_cast<size_t>(w.groups);
  const auto fill_output = [&](size_t n, float unit) {  // a power of two
    split.outputs[n] = unit;
    for (size_t g = n * groups; g < (n + 1) * groups; ++g) {
      const std::optional<Half> scale = exactly<Half>(w.scales[g] / unit);
      if (!scale) return false;
      split.groups[g] = *scale;
    }
    return true;
  };
  for (size_t n = 0; n < split.outputs.size(); ++n) {
    if (fill_output(n, 1)) continue;
    const double largest = std::ranges::max(std::span(w.scales).subspan(n * groups, groups));
    const int exponent =
        std::max(std::ilogb(largest) - kLargestExponent, std::numeric_limits<float>::min_exponent);
    if (fill_output(n, std::ldexp(1.0f, exponent))) continue;
    throw Error(
        "{}: the group scales of output {} have more than the 11 significant bits of a float16 number; "
        "save the model in 16 bits",
        w.where, n);
  }
  return split;
}

void fill_groups(const AffineWeights& w, QuantizedLinear& l) {
  if (w.bits > 4) {
    throw Error("{}: codes of {} bits in groups of {} inputs do not run here; start from the float model",
                w.where, w.bits, w.k / w.groups);
  }
  l.group_size = w.k / w.groups;
  l.qweight = nibbles(w, 0);
  l.group_zero = zero_points(w);
  const auto set_scales = [&]<class GroupScale>(WeightFormat format, const SplitScales<GroupScale>& split) {
    l.weight_format = format;
    l.scale = Tensor::from<float>(split.outputs, {w.n});
    l.group_scale = Tensor::from<GroupScale>(split.groups, {w.n, w.groups});
  };
  if (const auto integers = integer_scales(w)) {
    set_scales(WeightFormat::kUint4Grouped, *integers);
  } else {
    set_scales(WeightFormat::kUint4Float, float_scales(w));
  }
}

}  // namespace

void check_group_size(const std::string& where, std::optional<int64_t> labelled, int64_t k, int64_t groups) {
  const int64_t count = std::max<int64_t>(groups, 1);
  if (!labelled || k % count != 0 || (*labelled == -1 ? count == 1 : *labelled == k / count)) return;
  throw Error("{}: has {} for {} inputs, but config.json says group_size {}", where,
              count == 1 ? "one group" : fmt::format("{} groups", count), k, *labelled);
}

QuantizedLinear to_quantized_linear(AffineWeights w, const ActivationFormat& activation) {
  check(w);
  QuantizedLinear l;
  l.n = w.n;
  l.k = w.k;
  l.activation = activation;
  if (!w.input_group.empty()) {
    if (const std::vector<int32_t> order = sort_inputs(w); !order.empty())
      l.input_index = Tensor::from<int32_t>(order, {w.k});
  }
  if (w.groups == 1) {
    fill_outputs(w, l);
  } else {
    make_scales_positive(w);
    fill_groups(w, l);
  }
  return l;
}

}  // namespace tessera::foreign
