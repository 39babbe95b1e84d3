// Our layers in the form that other tools share.
#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/foreign/affine_weights.h"

namespace tessera::foreign {
namespace {

void refuse_parts(const QuantizedLinear& l, const std::string& where) {
  if (!l.outlier_index.empty()) {
    throw Error(
        "{}: float16 outlier columns have no place in other formats; run it with tessera, or quantize with "
        "--set outliers.count=0",
        where);
  }
  if (!l.input_gain.empty() || !l.input_offset.empty() || !l.input_repeat.empty()) {
    throw Error(
        "{}: a map that weighs or repeats inputs has no place in other formats; run it with tessera, or "
        "quantize "
        "with --set reassemble=off",
        where);
  }
}

/// 0 .. 2^bits - 1, [N, K].
std::vector<uint8_t> unsigned_codes(const QuantizedLinear& l) {
  std::vector<uint8_t> codes(static_cast<size_t>(l.n * l.k));
  const auto width = static_cast<size_t>(l.k);
  if (l.weight_format == WeightFormat::kInt8) {
    const auto from = l.qweight.as<int8_t>();
    std::ranges::transform(from, codes.begin(), [](int q) { return static_cast<uint8_t>(q + 128); });
    return codes;
  }
  const int flip = l.weight_format == WeightFormat::kInt4 ? 8 : 0;  // of the sign bit: adds 8
  const auto from = l.qweight.as<uint8_t>();
  parallel_for(l.n, [&](int64_t n) {
    const size_t begin = static_cast<size_t>(n) * width;
    for (size_t i = begin; i < begin + width; i += 2) {
      codes[i] = static_cast<uint8_t>((from[i / 2] & 15) ^ flip);
      codes[i + 1] = static_cast<uint8_t>(from[i / 2] >> 4 ^ flip);
    }
  });
  return codes;
}

/// scale[n] * group_scale[n, g].
std::vector<double> real_scales(const QuantizedLinear& l) {
  const auto outputs = l.scale.as<float>();
  if (l.group_scale.empty()) return {outputs.begin(), outputs.end()};
  const auto groups = static_cast<size_t>(l.groups());
  std::vector<double> scales(outputs.size() * groups);
  for (size_t i = 0; i < scales.size(); ++i) {
    const double group = l.weight_format == WeightFormat::kUint4Float
                             ? double{to_float(l.group_scale.as<Half>()[i])}
                             : double{static_cast<float>(l.group_scale.as<int8_t>()[i])};
    scales[i] = outputs[i / groups] * group;
  }
  return scales;
}

/// Puts columns where their inputs are; `order` holds the input of each column.
void restore_order(AffineWeights& w, std::span<const int32_t> order) {
  constexpr int32_t kNone = -1;
  std::vector<int32_t> column_of(order.size(), kNone);
  for (size_t column = 0; column < order.size(); ++column) {
    const auto input = static_cast<size_t>(order[column]);
    if (order[column] < 0 || input >= order.size() || column_of[input] != kNone)
      throw Error("{}: an input map that is no permutation has no place in other formats", w.where);
    column_of[input] = static_cast<int32_t>(column);
  }
  parallel_for(w.n, [&](int64_t n) {
    const auto row = std::span(w.codes).subspan(static_cast<size_t>(n * w.k), order.size());
    const std::vector<uint8_t> sorted(row.begin(), row.end());
    for (size_t input = 0; input < row.size(); ++input)
      row[input] = sorted[static_cast<size_t>(column_of[input])];
  });
  if (w.groups == 1) return;
  for (int32_t column : column_of) w.input_group.push_back(static_cast<int32_t>(column / w.group_size()));
}

}  // namespace

AffineWeights to_affine_weights(const QuantizedLinear& l, std::string where) {
  refuse_parts(l, where);
  AffineWeights w{.where = std::move(where),
                  .bits = weight_bits(l.weight_format),
                  .n = l.n,
                  .k = l.k,
                  .groups = std::max<int64_t>(1, l.groups()),
                  .codes = unsigned_codes(l),
                  .scales = real_scales(l)};
  const auto zeros = l.group_zero.as<uint8_t>();
  w.zeros.assign(zeros.begin(), zeros.end());
  if (!l.input_index.empty()) restore_order(w, l.input_index.as<int32_t>());
  return w;
}

}  // namespace tessera::foreign
