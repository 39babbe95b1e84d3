// Reading QQQ's tensors into our form.
#include "tessera/format/qqq_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/qqq_layout.h"

namespace tessera::qqq {
namespace {

/// A layer's tensors, their shapes checked.
struct Stored {
  std::string where;
  int64_t n = 0, k = 0, groups = 0;  ///< groups of a row; 0: one scale a row
  std::span<const int32_t> words;
  std::span<const float> channel_scale;
  std::span<const Half> group_scale;

  /// 0 .. 15
  int code(int64_t row, int64_t column) const {
    const CodePosition at = code_position(column, row, groups > 0);
    const auto word = static_cast<uint32_t>(words[static_cast<size_t>(at.row * 2 * n + at.word)]);
    return static_cast<int>(word >> 4 * at.nibble & 15);
  }
  Half group_scale_of(int64_t row, int64_t group) const {
    return group_scale[static_cast<size_t>(group * n + group_scale_column(row))];
  }
};

template <class T>
std::span<const T> values(const TensorView& tensor, DType type, const Shape& shape, const std::string& name) {
  if (tensor.dtype != type || tensor.shape != shape) {
    throw Error("{}: is {} {}, expected {} {}", name, name_of(tensor.dtype), to_string(tensor.shape),
                name_of(type), to_string(shape));
  }
  return tensor.as<T>();
}

Stored read(const Checkpoint& checkpoint, const std::string& prefix) {
  Stored s;
  s.where = checkpoint.dir().string() + ": " + prefix;
  const TensorView& words = checkpoint.at(prefix + ".B");
  const Shape& shape = words.shape;
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 128 || shape[1] % 128 != 0) {
    throw Error("{}.B: has shape {}, expected [K / 16, 2 N] with N a multiple of 64", s.where,
                to_string(shape));
  }
  s.k = 16 * shape[0];
  s.n = shape[1] / 2;
  s.words = values<int32_t>(words, DType::kI32, shape, s.where + ".B");
  s.channel_scale =
      values<float>(checkpoint.at(prefix + ".s_channel"), DType::kF32, {1, s.n}, s.where + ".s_channel");
  if (checkpoint.contains(prefix + ".s_group")) {
    const TensorView& scales = checkpoint.at(prefix + ".s_group");
    s.groups = scales.shape.size() == 2 && scales.shape[1] > 0 ? scales.shape[0] : 0;  // may be empty
    if (s.groups > 0) {
      if (s.k % s.groups != 0)
        throw Error("{}.s_group: {} groups do not divide {} inputs", s.where, s.groups, s.k);
      s.group_scale = values<Half>(scales, DType::kF16, {s.groups, s.n}, s.where + ".s_group");
    }
  }
  return s;
}

bool has_integer_scales(const Stored& s) {
  return std::all_of(s.group_scale.begin(), s.group_scale.end(), [](Half scale) {
    const float value = to_float(scale);
    return value >= 1 && value <= 16 && value == std::nearbyint(value);
  });
}

/// The codes of a layer, [N, K].
template <class Code>
std::vector<int8_t> codes_of(const Stored& s, const Code& code) {
  std::vector<int8_t> codes(static_cast<size_t>(s.n * s.k));
  parallel_for(s.n, [&](int64_t row) {
    for (int64_t column = 0; column < s.k; ++column)
      codes[static_cast<size_t>(row * s.k + column)] = static_cast<int8_t>(code(row, column));
  });
  return codes;
}

/// The codes times their group scales.
std::vector<int8_t> expanded_codes(const Stored& s) {
  std::atomic<int64_t> bad = -1;  // an output with a weight outside int8
  std::vector<int8_t> codes = codes_of(s, [&](int64_t row, int64_t column) {
    const Half scale = s.group_scale_of(row, column / (s.k / s.groups));
    const int u = s.code(row, column);
    const float product = static_cast<float>(u - 8) * to_float(scale);
    if (!(to_float(scale) >= 0) || !(product >= -128 && product < 127.5f)) {
      bad = row;
      return 0;
    }
    return expand_grouped(u, scale);
  });
  if (bad >= 0) {
    throw Error("{}.s_group: a scale of output {} is negative, not finite or takes a code out of int8",
                s.where, bad.load());
  }
  return codes;
}

/// Codes and group scales.
void fill_weights(const Stored& s, QuantizedLinear& linear) {
  if (s.groups > 0 && !has_integer_scales(s)) {
    linear.weight_format = WeightFormat::kInt8;
    linear.qweight = Tensor::from<int8_t>(expanded_codes(s), {s.n, s.k});
    return;
  }
  linear.weight_format = s.groups > 0 ? WeightFormat::kUint4Grouped : WeightFormat::kInt4;
  const auto code = [&](int64_t row, int64_t column) { return s.code(row, column); };
  linear.qweight = pack_int4(codes_of(s, code), s.n, s.k);
  if (s.groups == 0) return;
  linear.group_size = s.k / s.groups;
  linear.group_scale = Tensor(DType::kI8, {s.n, s.groups});
  const auto scales = linear.group_scale.as<int8_t>();
  for (int64_t row = 0; row < s.n; ++row) {
    for (int64_t group = 0; group < s.groups; ++group) {
      scales[static_cast<size_t>(row * s.groups + group)] =
          static_cast<int8_t>(to_float(s.group_scale_of(row, group)));
    }
  }
}

}  // namespace

bool is_quantized(const Checkpoint& checkpoint, const std::string& prefix) {
  return checkpoint.contains(prefix + ".B");
}

QuantizedLinear load_linear(const Checkpoint& checkpoint, const std::string& prefix) {
  const Stored s = read(checkpoint, prefix);
  QuantizedLinear linear;
  linear.n = s.n;
  linear.k = s.k;
  fill_weights(s, linear);
  linear.scale = Tensor(DType::kF32, {s.n});
  const auto scale = linear.scale.as<float>();
  for (int64_t row = 0; row < s.n; ++row) {
    const float stored = s.channel_scale[static_cast<size_t>(channel_scale_column(row))];
    scale[static_cast<size_t>(row)] = s.groups > 0 ? stored : 16 * stored;
  }
  if (checkpoint.contains(prefix + ".bias")) {
    const TensorView& bias = checkpoint.at(prefix + ".bias", {s.n});
    linear.bias = Tensor::from<float>(to_floats(bias), {s.n});
  }
  return linear;
}

}  // namespace tessera::qqq
