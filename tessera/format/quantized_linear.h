// QuantizedLinear: the one integer linear layer that every method ends in, and its form on disk.
//
// For a token x (row of k_in() floats) and N outputs:
//
//   x'      = input map of x             K columns: x without outliers, or a sparse gather (see input_index)
//   q, s, z = quantize_token(x')         int8 codes in the range of 4 to 8 bits, float scale, zero point
//   w8      = expand(qweight)            int8 [N, K], see WeightFormat; floats in kUint4Float
//   acc[n]  = sum_k q[k] * w8[n, k]      int32, exact in any order
//   y[n]    = (float(acc[n] - z * row_sum[n]) * scale[n]) * s
//             + sum_f x[outlier f] * outlier_weight[n, f]  +  bias[n]
//
// Weight-only layers (16 activation bits) skip the codes: acc[n] = sum_k x'[k] * w8[n, k] in floats, s = 1.
//
// A method is data in this struct, not a code path. The arithmetic is defined in reference.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/base/json_node.h"
#include "tessera/base/tensor.h"
#include "tessera/format/checkpoint.h"

namespace tessera {

/// How weight codes become the int8 operand w8 of the product.
enum class WeightFormat : uint8_t {
  kInt8,          ///< w8 = q, q in [-128, 127]; also the container of 5- to 7-bit weights
  kInt4,          ///< w8 = q, q in [-8, 7], two's complement nibble; one scale an output (QQQ per channel)
  kUint4Grouped,  ///< w8 = group_scale * (u - group_zero), u in [0, 15]; |w8| <= 128 (QQQ g128 with integer
                  ///< scales, DGQ; one group an output, of scale 1, is its 4-bit zero point, QLLM)
  kUint4Float     ///< the same with float16 group scales, so that "w8" is a float: weight-only layers (GPTQ,
                  ///< AWQ, Q4_0)
};

/// "int8", "int4", "uint4-grouped", "uint4-float"
std::string_view name_of(WeightFormat format);

/// How a linear layer's input is quantized.
struct ActivationFormat {
  int bits = 8;           ///< 4 to 8, or 16: the input stays in floats (weight-only quantization)
  bool symmetric = true;  ///< symmetric: codes -(2^(b-1) - 1) .. 2^(b-1) - 1 and zero point 0
  bool per_token = true;  ///< false: one static scale, QuantizedLinear::input_scale
  /// Asymmetric codes: false: 0 is a code and the zero point an integer (QUIK, variant Z); true: the smallest
  /// value is a code and the zero point real (variant R).
  bool real_zero = false;

  bool weight_only() const { return bits == 16; }
  friend bool operator==(const ActivationFormat&, const ActivationFormat&) = default;
};

/// {"bits": 8, "symmetric": true, "scale": "per_token"}, and "zero": "real" where it is
nlohmann::json to_json(const ActivationFormat& format);
/// Throws Error naming the place for unknown keys or values.
ActivationFormat activation_format_from_json(const JsonNode& node);

/// One linear layer in integers. Tensors that a layer does not need are empty. On disk each tensor is
/// "PREFIX.field".
struct QuantizedLinear {
  int64_t n = 0;           ///< outputs
  int64_t k = 0;           ///< columns of the integer product (after map and outlier removal)
  int64_t group_size = 0;  ///< inputs that share a group scale; 0: none. Divides k
  WeightFormat weight_format = WeightFormat::kInt4;
  ActivationFormat activation;

  Tensor qweight;      ///< I8 [N, K] (kInt8), or U8 [N, K/2]: low nibble = even k
  Tensor scale;        ///< F32 [N]: real weight = scale[n] * w8[n, k]
  Tensor group_scale;  ///< [N, K/group_size]: I8, values 1..127 (kUint4Grouped), or F16, none negative
                       ///< (kUint4Float)
  Tensor group_zero;   ///< U8 [N, K/group_size], values 0..15; empty: 8 everywhere
  Tensor row_sum;      ///< I32 [N]: sum_k w8[n, k]; present when codes have a zero point
  Tensor bias;         ///< F32 [N], optional
  Tensor input_scale;  ///< F32 [1]: the static activation scale, when !activation.per_token

  Tensor outlier_index;   ///< I32 [F]: inputs that bypass quantization, ascending (QUIK)
  Tensor outlier_weight;  ///< F16 [N, F]
  /// Sparse input map (QLLM reassembly, QUIK permutation): x'[c] = sum over i in [input_offset[c],
  /// input_offset[c + 1]) of input_gain[i] * x[input_index[i]], at least one, added in this order.
  /// Disassembly names a channel T times with gain 1/T, assembly several sources of one column, each with
  /// gain 1 / group size. All three empty: identity, or dropping the outliers where there are some. With a
  /// map the outliers are still columns of x. A map that ignores the last inputs names the last one with gain
  /// 0, see k_in().
  Tensor input_index;   ///< I32 [nnz]
  Tensor input_gain;    ///< F32 [nnz]; empty: 1
  Tensor input_offset;  ///< I32 [K + 1]; empty: one source a column (nnz = K)
  /// U8 [K], 1..127, or empty (1): column c stands for that many equal channels, so its code becomes
  /// input_repeat[c] * (code - zero point), and the token's zero point 0 (QLLM, virtual disassembly on int8
  /// operands). The largest |code - zero point| times the largest repeat stays within 127.
  Tensor input_repeat;

  int64_t groups() const { return group_size > 0 ? k / group_size : 0; }
  /// True when x' = x: no map and no outliers.
  bool plain_input() const { return input_index.empty() && outlier_index.empty(); }
  /// True when the codes that reach the product have a zero point, so that row_sum is needed.
  bool has_zero_point() const { return !activation.symmetric && input_repeat.empty(); }
  /// Width of the float input x: K and the outliers, or one past the last input that map and outliers read.
  int64_t k_in() const;
  /// Bytes of all tensors.
  size_t bytes() const;
  /// A deep copy.
  QuantizedLinear clone() const;

  /// Throws Error ("WHERE: ...") when shapes, dtypes or value ranges do not fit together: a group scale that
  /// drives some w8 out of int8, K so large that sums could overflow, a map out of order, numbers that are
  /// not finite. Only load_quantized_linear knows whether indexes are within the input.
  void validate(const std::string& where) const;
  /// Throws Error ("WHERE: ...") for a layer that other tools write and nothing here multiplies: float group
  /// scales with integer activations, or in groups of no multiple of 32 inputs.
  void require_kernel(const std::string& where) const;
};

/// What it computes with, in short: "w4a8 per-channel", "w4a8 g128", "w4a4 asymmetric per-channel, mapped,
/// 256 f16 outliers", "w8a8 static per-channel". Weight bits are those of the container.
std::string describe(const QuantizedLinear& linear);
/// Bits of a stored weight code: 4 or 8.
int weight_bits(WeightFormat format);
/// Largest K for which no sum of `format`'s products, with or without its zero point, reaches 2^31.
int64_t max_integer_k(const ActivationFormat& format);
/// True when an input prepared for `a` serves `b`: the same map, outliers and codes.
bool same_input(const QuantizedLinear& a, const QuantizedLinear& b);

/// The tensors to write for `linear`; views into it.
std::vector<NamedTensor> named_tensors(const QuantizedLinear& linear, const std::string& prefix);
/// The inverse: PREFIX.*, as far as it is there, with sizes and format from shapes and types. To be
/// validated. Throws Error when PREFIX.qweight is absent or no weight of ours.
QuantizedLinear read_tensors(const Checkpoint& checkpoint, const std::string& prefix);

/// Nibble packing along K: byte i of a row holds codes 2i (low nibble) and 2i + 1 (high nibble).
constexpr uint8_t pack_nibbles(int even, int odd) {
  return static_cast<uint8_t>((even & 15) | (odd & 15) << 4);
}
constexpr int unpack_nibble(uint8_t byte, int64_t k) {
  return (k & 1) ? byte >> 4 : byte & 15;
}
/// Two's complement value, -8..7, of a nibble.
constexpr int sign_extend_nibble(int nibble) {
  return (nibble ^ 8) - 8;
}

/// Packs codes [N, K] (int4: -8..7, uint4: 0..15) into U8 [N, K/2]. K must be even.
Tensor pack_int4(std::span<const int8_t> codes, int64_t n, int64_t k);
/// The inverse, in the range of `format` (kInt4: -8..7, others: 0..15).
std::vector<int8_t> unpack_int4(const Tensor& packed, int64_t n, int64_t k, WeightFormat format);

}  // namespace tessera
