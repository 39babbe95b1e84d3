// The exact arithmetic of QuantizedLinear, one scalar function a step. The quantizer simulates with it and
// every kernel is judged by it: bit for bit up to the int32 accumulator, and in the epilogue when the order
// below is kept.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tessera/format/input_map.h"
#include "tessera/format/quantized_linear.h"

namespace tessera {

/// Scale and zero point of one quantized token: x[k] ~ scale * (code[k] - zero_point) + offset.
struct TokenScale {
  float scale = 0;
  int32_t zero_point = 0;
  float offset = 0;  ///< of real zero points; their zero_point is 0
};

/// Symmetric codes, the definition for all kernels (QQQ, "per token, dynamic, symmetric"): with a = max|x|
/// and qmax = 2^(bits-1) - 1; if a < 2^-100 the scale is 0 and all codes 0; otherwise inv = qmax / a, code =
/// rint(x * inv) clamped to [-qmax, qmax], scale = a / qmax; all in float. A row with NaN or infinity gives
/// scale NaN and codes 0.
TokenScale quantize_symmetric(std::span<const float> x, int bits, std::span<int8_t> codes);

/// Asymmetric codes (QUIK, variant Z): lo = min(0, min x), hi = max(0, max x), L = 2^bits - 1, s = (hi - lo)
/// / L, z = rint(-lo / s), u = clamp(rint(x / s) + z, 0, L); stored shifted by h = 2^(bits-1): code = u - h,
/// zero_point = z - h. A row of zeros has scale 1/L, z = 0 (all codes -h). Non-finite rows as above.
TokenScale quantize_asymmetric(std::span<const float> x, int bits, std::span<int8_t> codes);

/// Asymmetric codes with a real zero point (QUIK, variant R): mn = min x, L = 2^bits - 1, s = max((max x -
/// mn) / L, 1e-6), u = clamp(rint((x - mn) / s), 0, L); code = u - h with h = 2^(bits-1), offset = mn + h *
/// s. Rows whose range is not finite as above.
TokenScale quantize_real_zero(std::span<const float> x, int bits, std::span<int8_t> codes);

/// Static symmetric codes: code = rint(x / scale) clamped to [-qmax, qmax].
TokenScale quantize_static(std::span<const float> x, int bits, float scale, std::span<int8_t> codes);

/// The one that `linear.activation` asks for; with input_repeat, codes input_repeat[k] * (code - zero point)
/// and zero point 0. Not for weight-only layers.
TokenScale quantize_token(const QuantizedLinear& linear, std::span<const float> x, std::span<int8_t> codes);

/// x [K_in] -> x' [K].
void map_input(const InputMap& map, std::span<const float> x, std::span<float> mapped);

/// w8 [K] of output n, of any format but kUint4Float.
void expand_row(const QuantizedLinear& linear, int64_t n, std::span<int8_t> w8);
/// The same in floats, exactly, of any format; kUint4Float: group_scale * (u - group_zero).
void expand_row(const QuantizedLinear& linear, int64_t n, std::span<float> w);

/// sum_k codes[k] * w8[k].
int32_t dot(std::span<const int8_t> codes, std::span<const int8_t> w8);

/// (float(acc - zero_point * row_sum) * weight_scale) * token.scale, in this order, and behind it, with a
/// real zero point, + token.offset * (weight_scale * float(row_sum)).
inline float scale_accumulator(int32_t acc, int32_t row_sum, float weight_scale, TokenScale token) {
  const float scaled = static_cast<float>(acc - token.zero_point * row_sum) * weight_scale * token.scale;
  return token.offset == 0 ? scaled : scaled + token.offset * (weight_scale * static_cast<float>(row_sum));
}

/// The whole layer: x [M, K_in] -> y [M, N]. The sum over outliers (added up in ascending order) and the bias
/// are added in float after the integer part, in this order. Weight-only: y = float(sum_k x'[k] * w8[k], in
/// double) * scale, then outliers and bias. Where `accumulators` is not null it receives acc [M, N] of an
/// integer layer.
void reference_forward(const QuantizedLinear& linear, std::span<const float> x, int64_t m, std::span<float> y,
                       std::vector<int32_t>* accumulators = nullptr);

/// Real weights scale[n] * w8[n, k] as F32 [N, K].
std::vector<float> dequantize(const QuantizedLinear& linear);

/// The real weights over the layer's input x, F32 [N, K_in]: map, gains, repeats and outliers are in them.
std::vector<float> input_weights(const QuantizedLinear& linear);

}  // namespace tessera
