// Reading QQQ's tensors into our form.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/foreign/affine_weights.h"
#include "tessera/format/foreign/qqq_layout.h"
#include "tessera/format/foreign/readers.h"
#include "tessera/format/foreign/stored_linear.h"

namespace tessera::foreign {
namespace {

using namespace qqq;

/// A layer's tensors, their shapes checked.
struct Stored {
  std::string where;
  int64_t n = 0, k = 0, groups = 0;  ///< groups of an output; 0: one scale an output
  std::span<const int32_t> words;
  std::span<const float> channel_scale;
  std::span<const Half> group_scale;

  /// 0 .. 15
  int code(int64_t output, int64_t column) const {
    const CodePosition at = code_position(column, output, groups > 0);
    const auto word = static_cast<uint32_t>(words[static_cast<size_t>(at.row * 2 * n + at.word)]);
    return static_cast<int>(word >> 4 * at.nibble & 15);
  }
  Half group_scale_of(int64_t output, int64_t group) const {
    return group_scale[static_cast<size_t>(group * n + group_scale_column(output))];
  }
};

Stored read(const StoredLinear& stored) {
  Stored s;
  s.where = stored.where();
  const auto [rows, width] = stored.matrix("B");
  if (width % 128 != 0) {
    throw Error("{}.B: has shape {}, expected [K / 16, 2 N] with N a multiple of 64", s.where,
                to_string({rows, width}));
  }
  s.k = 16 * rows;
  s.n = width / 2;
  s.words = stored.values<int32_t>("B", {rows, width});
  s.channel_scale = stored.values<float>("s_channel", {1, s.n});
  if (stored.has("s_group") && stored.at("s_group").size() > 0) {
    s.groups = stored.matrix("s_group").first;
    if (s.k % s.groups != 0)
      throw Error("{}.s_group: {} groups do not divide {} inputs", s.where, s.groups, s.k);
    s.group_scale = stored.values<Half>("s_group", {s.groups, s.n});
  }
  return s;
}

bool has_integer_scales(const Stored& s) {
  return std::all_of(s.group_scale.begin(), s.group_scale.end(), [](Half scale) {
    const float value = to_float(scale);
    return value >= 1 && value <= 127 && value == std::nearbyint(value);
  });
}

/// The codes of a layer, [N, K].
template <class Code>
std::vector<int8_t> codes_of(const Stored& s, const Code& code) {
  std::vector<int8_t> codes(static_cast<size_t>(s.n * s.k));
  parallel_for(s.n, [&](int64_t output) {
    for (int64_t column = 0; column < s.k; ++column)
      codes[static_cast<size_t>(output * s.k + column)] = static_cast<int8_t>(code(output, column));
  });
  return codes;
}

/// The codes times their group scales.
std::vector<int8_t> expanded_codes(const Stored& s) {
  std::atomic<int64_t> bad = -1;  // an output with a weight outside int8
  std::vector<int8_t> codes = codes_of(s, [&](int64_t output, int64_t column) {
    const Half scale = s.group_scale_of(output, column / (s.k / s.groups));
    const int u = s.code(output, column);
    const float product = static_cast<float>(u - 8) * to_float(scale);
    if (!(to_float(scale) >= 0) || !(product >= -128 && product < 127.5f)) {
      bad = output;
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
  const auto code = [&](int64_t output, int64_t column) { return s.code(output, column); };
  linear.qweight = pack_int4(codes_of(s, code), s.n, s.k);
  if (s.groups == 0) return;
  linear.group_size = s.k / s.groups;
  linear.group_scale = Tensor(DType::kI8, {s.n, s.groups});
  const auto scales = linear.group_scale.as<int8_t>();
  for (int64_t output = 0; output < s.n; ++output) {
    for (int64_t group = 0; group < s.groups; ++group) {
      scales[static_cast<size_t>(output * s.groups + group)] =
          static_cast<int8_t>(to_float(s.group_scale_of(output, group)));
    }
  }
}

QuantizedLinear load_linear(std::optional<int64_t> group_size, const Checkpoint& checkpoint,
                            const std::string& prefix) {
  const StoredLinear stored(checkpoint, prefix);
  const Stored s = read(stored);
  check_group_size(stored.where(), group_size, s.k, s.groups);
  QuantizedLinear linear;
  linear.n = s.n;
  linear.k = s.k;
  fill_weights(s, linear);
  linear.scale = Tensor(DType::kF32, {s.n});
  const auto scale = linear.scale.as<float>();
  for (int64_t output = 0; output < s.n; ++output) {
    const float channel = s.channel_scale[static_cast<size_t>(channel_scale_column(output))];
    scale[static_cast<size_t>(output)] = s.groups > 0 ? channel : 16 * channel;
  }
  linear.bias = stored.bias(s.n);
  return linear;
}

}  // namespace

LinearReader qqq_reader(const JsonNode& config) {
  const auto bits = config["wbits"].get_or(config["bits"].get_or(4));
  if (bits != 4) config.fail("weights of {} bits are not readable here (4 are)", bits);
  std::optional<int64_t> group_size;
  if (const JsonNode size = config["group_size"]; !size.is_null()) group_size = size.get<int64_t>();
  return [group_size](const Checkpoint& checkpoint, const std::string& prefix) {
    return load_linear(group_size, checkpoint, prefix);
  };
}

}  // namespace tessera::foreign
