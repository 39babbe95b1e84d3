// What must hold for a QuantizedLinear, whoever made it.
#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/quantized_linear.h"

namespace tessera {
namespace {

void expect(const Tensor& tensor, DType dtype, const Shape& shape, const std::string& where,
            const char* name) {
  if (tensor.empty()) throw Error("{}: {} is missing", where, name);
  if (tensor.dtype() != dtype || tensor.shape() != shape) {
    throw Error("{}: {} is {} {}, expected {} {}", where, name, tessera::name_of(tensor.dtype()),
                to_string(tensor.shape()), tessera::name_of(dtype), to_string(shape));
  }
}

void expect_if_present(const Tensor& tensor, DType dtype, const Shape& shape, const std::string& where,
                       const char* name) {
  if (!tensor.empty()) expect(tensor, dtype, shape, where, name);
}

void expect_finite(const Tensor& tensor, const std::string& where, const char* name) {
  if (tensor.empty()) return;
  for (float v : tensor.as<float>()) {
    if (!std::isfinite(v)) throw Error("{}: {} holds a value that is not finite", where, name);
  }
}

void validate_group_shapes(const QuantizedLinear& l, DType scale, const std::string& where) {
  if (l.group_size <= 0 || l.k % l.group_size != 0) {
    throw Error("{}: group size {} does not divide K = {}", where, l.group_size, l.k);
  }
  expect(l.group_scale, scale, {l.n, l.groups()}, where, "group_scale");
  expect_if_present(l.group_zero, DType::kU8, {l.n, l.groups()}, where, "group_zero");
}

/// Every code of the group must stay in int8 once multiplied by the group scale.
void validate_integer_groups(const QuantizedLinear& l, const std::string& where) {
  validate_group_shapes(l, DType::kI8, where);
  const auto scale = l.group_scale.as<int8_t>();
  const auto zero = l.group_zero.as<uint8_t>();
  const auto codes = l.qweight.as<uint8_t>();
  const auto zero_of = [&](size_t g) { return zero.empty() ? 8 : int{zero[g]}; };
  const auto leaves_range = [&](size_t g) {
    const int s = scale[g], z = zero_of(g);
    if (s < 1 || z > 15) return true;
    if (s * -z >= -128 && s * (15 - z) <= 127) return false;  // whatever the codes are
    int lo = 15, hi = 0;
    const int64_t begin = static_cast<int64_t>(g) * l.group_size;
    for (int64_t i = begin; i < begin + l.group_size; ++i) {
      const int u = unpack_nibble(codes[static_cast<size_t>(i / 2)], i);
      lo = std::min(lo, u);
      hi = std::max(hi, u);
    }
    return s * (lo - z) < -128 || s * (hi - z) > 127;
  };
  const auto groups = static_cast<size_t>(l.groups());
  std::vector<size_t> first_bad(static_cast<size_t>(l.n));  // of each output; `groups`: none
  parallel_for(l.n, [&](int64_t n) {
    const auto output = static_cast<size_t>(n);
    size_t g = 0;
    while (g < groups && !leaves_range(output * groups + g)) ++g;
    first_bad[output] = g;
  });
  for (size_t output = 0; output < first_bad.size(); ++output) {
    if (first_bad[output] == groups) continue;
    const size_t g = output * groups + first_bad[output];
    throw Error("{}: group {} (scale {}, zero point {}) leaves the int8 range; the file is damaged", where, g,
                int{scale[g]}, zero_of(g));
  }
}

void validate_float_groups(const QuantizedLinear& l, const std::string& where) {
  validate_group_shapes(l, DType::kF16, where);
  for (Half scale : l.group_scale.as<Half>()) {
    if (!std::isfinite(to_float(scale)) || to_float(scale) < 0)
      throw Error("{}: group_scale holds a value that is negative or not finite", where);
  }
  for (int zero : l.group_zero.as<uint8_t>()) {
    if (zero > 15) throw Error("{}: group_zero {} is no code of 4 bits", where, zero);
  }
}

void validate_weights(const QuantizedLinear& l, const std::string& where) {
  if (l.weight_format == WeightFormat::kInt8) {
    expect(l.qweight, DType::kI8, {l.n, l.k}, where, "qweight");
  } else {
    if (l.k % 2 != 0) throw Error("{}: K = {} is odd, 4-bit codes come in pairs", where, l.k);
    expect(l.qweight, DType::kU8, {l.n, l.k / 2}, where, "qweight");
  }
  expect(l.scale, DType::kF32, {l.n}, where, "scale");
  expect_finite(l.scale, where, "scale");
  expect_if_present(l.bias, DType::kF32, {l.n}, where, "bias");
  expect_finite(l.bias, where, "bias");
  expect_if_present(l.row_sum, DType::kI32, {l.n}, where, "row_sum");
  if (l.weight_format == WeightFormat::kUint4Grouped) return validate_integer_groups(l, where);
  if (l.weight_format == WeightFormat::kUint4Float) return validate_float_groups(l, where);
  if (l.group_size != 0 || !l.group_scale.empty() || !l.group_zero.empty()) {
    throw Error("{}: group scales and zero points belong to packed unsigned codes, not to {}", where,
                tessera::name_of(l.weight_format));
  }
}

/// The codes' scale, zero point and range.
void validate_activation(const QuantizedLinear& l, const std::string& where) {
  if (l.activation.weight_only()) {
    if (!l.input_repeat.empty()) throw Error("{}: input_repeat belongs to integer codes", where);
    return;
  }
  if (l.k > max_integer_k(l.activation)) {
    throw Error("{}: K = {} could overflow 32-bit sums; at most {} is possible with these activations", where,
                l.k, max_integer_k(l.activation));
  }
  if (l.has_zero_point()) {
    expect(l.row_sum, DType::kI32, {l.n}, where, "row_sum");
    for (int64_t sum : l.row_sum.as<int32_t>()) {
      if (std::abs(sum) > 128 * l.k) throw Error("{}: row_sum {} is no sum of {} weights", where, sum, l.k);
    }
  }
  if (!l.activation.per_token) {
    expect(l.input_scale, DType::kF32, {1}, where, "input_scale");
    expect_finite(l.input_scale, where, "input_scale");
    if (!(l.input_scale.as<float>()[0] > 0)) throw Error("{}: input_scale is not positive", where);
  }
  if (l.input_repeat.empty()) return;
  expect(l.input_repeat, DType::kU8, {l.k}, where, "input_repeat");
  if (l.activation.real_zero) throw Error("{}: input_repeat needs an integer zero point", where);
  const int largest_code =
      l.activation.symmetric ? (1 << (l.activation.bits - 1)) - 1 : (1 << l.activation.bits) - 1;
  for (int repeat : l.input_repeat.as<uint8_t>()) {
    if (repeat < 1 || repeat * largest_code > 127) {
      throw Error("{}: {} equal channels of {}-bit codes do not fit an int8 operand", where, repeat,
                  l.activation.bits);
    }
  }
}

void validate_outliers(const QuantizedLinear& l, const std::string& where) {
  if (l.outlier_index.empty()) {
    if (!l.outlier_weight.empty()) throw Error("{}: outlier_index is missing", where);
    return;
  }
  const int64_t f = l.outlier_index.size();
  expect(l.outlier_index, DType::kI32, {f}, where, "outlier_index");
  expect(l.outlier_weight, DType::kF16, {l.n, f}, where, "outlier_weight");
  const auto index = l.outlier_index.as<int32_t>();
  for (size_t i = 0; i < index.size(); ++i) {
    if (index[i] < 0 || (i > 0 && index[i] <= index[i - 1]))
      throw Error("{}: outlier_index is not ascending", where);
  }
  for (Half weight : l.outlier_weight.as<Half>()) {
    if (!std::isfinite(to_float(weight))) {
      throw Error("{}: outlier_weight holds a value that is not finite", where);
    }
  }
}

/// k_in() is not known here, so only order and sizes are checked.
void validate_map(const QuantizedLinear& l, const std::string& where) {
  if (l.input_index.empty()) {
    if (!l.input_gain.empty() || !l.input_offset.empty()) throw Error("{}: input_index is missing", where);
    return;
  }
  const int64_t nnz = l.input_index.size();
  expect(l.input_index, DType::kI32, {nnz}, where, "input_index");
  expect_if_present(l.input_gain, DType::kF32, {nnz}, where, "input_gain");
  expect_finite(l.input_gain, where, "input_gain");
  if (l.input_offset.empty()) {
    if (nnz != l.k) throw Error("{}: input_index has {} entries for K = {}", where, nnz, l.k);
    return;
  }
  expect(l.input_offset, DType::kI32, {l.k + 1}, where, "input_offset");
  const auto offset = l.input_offset.as<int32_t>();
  bool ordered = offset.front() == 0 && offset.back() == nnz;
  for (size_t i = 1; i < offset.size(); ++i) ordered = ordered && offset[i] > offset[i - 1];
  if (!ordered) throw Error("{}: input_offset does not ascend from 0 to {}", where, nnz);
}

}  // namespace

void QuantizedLinear::validate(const std::string& where) const {
  validate_weights(*this, where);
  validate_activation(*this, where);
  validate_outliers(*this, where);
  validate_map(*this, where);
}

void QuantizedLinear::require_kernel(const std::string& where) const {
  constexpr int64_t kGroupMultiple = 32;  // what the kernels' packed layouts need
  if (weight_format != WeightFormat::kUint4Float) return;
  if (!activation.weight_only()) {
    throw Error(
        "{}: {}-bit activations with float group scales have no integer kernel; quantize the model again "
        "(tessera quantize takes it), or convert it to float activations (--to gptq)",
        where, activation.bits);
  }
  if (group_size % kGroupMultiple != 0) {
    throw Error(
        "{}: float scales of groups of {} inputs have no kernel, multiples of {} have; quantize the model "
        "again (tessera quantize takes it)",
        where, group_size, kGroupMultiple);
  }
}

}  // namespace tessera
