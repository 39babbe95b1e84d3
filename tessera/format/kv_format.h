// How keys and values are kept between tokens, and the exact arithmetic of the quantized forms.
//
// Quantized caches have one scale and zero point for each head of each token, found when the token is
// appended: asymmetric codes whose range includes zero, as in quantize_asymmetric ("QLLM", keys after RoPE,
// values after their projection; DGQ's static per-tensor scales are coarser and need calibration). A row
// never changes afterwards, so quantizing token by token equals quantizing the whole sequence.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tessera {

enum class KvFormat : uint8_t { kF32, kF16, kInt8, kInt4 };

/// value = scale * (u - zero) for codes u in 0 .. 2^bits - 1.
struct KvScale {
  float scale = 0, zero = 0;
};

constexpr int kv_bits(KvFormat format) {
  return format == KvFormat::kF32 ? 32 : format == KvFormat::kF16 ? 16 : format == KvFormat::kInt8 ? 8 : 4;
}
constexpr bool is_quantized(KvFormat format) {
  return kv_bits(format) < 16;
}
/// Bytes of one head of one token, without its scale. head_dim is even.
constexpr int64_t kv_row_bytes(KvFormat format, int64_t head_dim) {
  return head_dim * kv_bits(format) / 8;
}

/// "f32", "f16", "int8", "int4"
std::string_view name_of(KvFormat format);
/// 32, 16, 8 or 4 bits. Throws Error for others, naming `where`.
KvFormat kv_format_of_bits(int bits, std::string_view where);

/// One head of one token, x [head_dim], into row [kv_row_bytes]. kInt8: byte i is code i; kInt4: the low
/// nibble of byte i is code i, the high one code i + head_dim / 2. A row that is not finite gets scale NaN.
KvScale quantize_kv(std::span<const float> x, KvFormat format, std::span<uint8_t> row);
/// The inverse: x[i] = scale * (float(u[i]) - zero), in this order.
void dequantize_kv(std::span<const uint8_t> row, KvFormat format, KvScale scale, std::span<float> x);

}  // namespace tessera
