// Writes layers as QQQ's program does, for tests.
#pragma once

#include <map>
#include <string>

#include "tessera/format/foreign/qqq_layout.h"
#include "tessera/format/quantized_linear.h"

namespace tessera::qqq {

/// The tensors of an int4 or uint4 layer in groups without zero points, by their last name. Group scales are
/// `factor` times the layer's.
inline std::map<std::string, Tensor> stored_tensors(const QuantizedLinear& linear, float factor = 1) {
  const bool grouped = linear.group_size > 0;
  const int64_t n = linear.n, k = linear.k;
  std::map<std::string, Tensor> tensors;
  Tensor& words = tensors["B"] = Tensor(DType::kI32, {k / 16, 2 * n});
  Tensor& channel = tensors["s_channel"] = Tensor(DType::kF32, {1, n});
  for (int64_t output = 0; output < n; ++output) {
    for (int64_t column = 0; column < k; ++column) {
      const auto byte = linear.qweight.as<uint8_t>()[static_cast<size_t>((output * k + column) / 2)];
      const CodePosition at = code_position(column, output, grouped);
      int32_t& word = words.as<int32_t>()[static_cast<size_t>(at.row * 2 * n + at.word)];
      word = static_cast<int32_t>(static_cast<uint32_t>(word) |
                                  static_cast<uint32_t>(unpack_nibble(byte, column)) << 4 * at.nibble);
    }
    channel.as<float>()[static_cast<size_t>(channel_scale_column(output))] =
        linear.scale.as<float>()[static_cast<size_t>(output)] / (grouped ? 1 : 16);
  }
  if (!grouped) return tensors;
  Tensor& scales = tensors["s_group"] = Tensor(DType::kF16, {linear.groups(), n});
  for (int64_t output = 0; output < n; ++output) {
    for (int64_t group = 0; group < linear.groups(); ++group) {
      const int scale =
          linear.group_scale.as<int8_t>()[static_cast<size_t>(output * linear.groups() + group)];
      scales.as<Half>()[static_cast<size_t>(group * n + group_scale_column(output))] =
          to_half(factor * static_cast<float>(scale));
    }
  }
  return tensors;
}

}  // namespace tessera::qqq
