// QuantizedLinear: packing, validation, disk form.
#include "tessera/format/quantized_linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/format/qqq_checkpoint.h"

namespace tessera {

using nlohmann::json;

std::string_view name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt8:
      return "int8";
    case WeightFormat::kInt4:
      return "int4";
    case WeightFormat::kUint4Grouped:
      return "uint4-grouped";
  }
  return "";
}

int weight_bits(WeightFormat format) {
  return format == WeightFormat::kInt8 ? 8 : 4;
}

std::string describe(const QuantizedLinear& l) {
  std::string text = fmt::format("w{}a{}", weight_bits(l.weight_format), l.activation.bits);
  if (!l.activation.symmetric) text += l.activation.real_zero ? " real-zero" : " asymmetric";
  if (!l.activation.per_token) text += " static";
  text += l.groups() > 1 ? fmt::format(" g{}", l.group_size) : " per-channel";
  if (!l.input_index.empty()) text += ", mapped";
  if (!l.outlier_index.empty()) text += fmt::format(", {} f16 outliers", l.outlier_index.size());
  return text;
}

int64_t max_integer_k(const ActivationFormat& format) {
  constexpr int64_t kLargestWeight = 128;
  const int64_t largest_code = format.symmetric ? int64_t{1} << (format.bits - 1)  // -128 is a legal operand
                                                : (int64_t{1} << format.bits) - 1;
  return std::numeric_limits<int32_t>::max() / (kLargestWeight * std::max<int64_t>(largest_code, 128));
}

json to_json(const ActivationFormat& format) {
  json value = {{"bits", format.bits},
                {"symmetric", format.symmetric},
                {"scale", format.per_token ? "per_token" : "static"}};
  if (format.real_zero) value["zero"] = "real";
  return value;
}

ActivationFormat activation_format_from_json(const JsonNode& node) {
  node.expect_keys({"bits", "symmetric", "scale", "zero"});
  ActivationFormat format;
  const JsonNode bits = node["bits"], scale = node["scale"], zero = node["zero"];
  format.bits = bits.get_or(format.bits);
  if ((format.bits < 4 || format.bits > 8) && format.bits != 16)
    bits.fail("{} bits do not exist; 4 to 8, or 16, do", format.bits);
  format.symmetric = node["symmetric"].get_or(format.symmetric);
  if (!scale.is_null()) format.per_token = scale.choice<bool>({{"per_token", true}, {"static", false}});
  if (!zero.is_null()) format.real_zero = zero.choice<bool>({{"integer", false}, {"real", true}});
  if (!format.per_token && !format.symmetric) node.fail("{}: a static scale is symmetric", node.shown());
  if (format.real_zero && format.symmetric) node.fail("{}: symmetric codes have no zero point", node.shown());
  if (format.weight_only() && format != ActivationFormat{.bits = 16})
    node.fail("{}: 16 bits are not quantized", node.shown());
  return format;
}

namespace {

/// The optional tensors by their names on disk.
template <class Linear>
auto fields(Linear& l) {
  using T = decltype(&l.qweight);
  return std::vector<std::pair<const char*, T>>{{"qweight", &l.qweight},
                                                {"scale", &l.scale},
                                                {"group_scale", &l.group_scale},
                                                {"group_zero", &l.group_zero},
                                                {"row_sum", &l.row_sum},
                                                {"bias", &l.bias},
                                                {"input_scale", &l.input_scale},
                                                {"outlier_index", &l.outlier_index},
                                                {"outlier_weight", &l.outlier_weight},
                                                {"input_index", &l.input_index},
                                                {"input_gain", &l.input_gain},
                                                {"input_offset", &l.input_offset},
                                                {"input_repeat", &l.input_repeat}};
}

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

/// Every code of the group must stay in int8 once multiplied by the group scale.
void validate_groups(const QuantizedLinear& l, const std::string& where) {
  if (l.group_size <= 0 || l.k % l.group_size != 0) {
    throw Error("{}: group size {} does not divide K = {}", where, l.group_size, l.k);
  }
  expect(l.group_scale, DType::kI8, {l.n, l.groups()}, where, "group_scale");
  expect_if_present(l.group_zero, DType::kU8, {l.n, l.groups()}, where, "group_zero");
  const auto scale = l.group_scale.as<int8_t>();
  const auto zero = l.group_zero.as<uint8_t>();
  const auto codes = l.qweight.as<uint8_t>();
  for (size_t g = 0; g < scale.size(); ++g) {
    const int z = zero.empty() ? 8 : zero[g];
    int lo = 15, hi = 0;
    const int64_t begin = static_cast<int64_t>(g) * l.group_size;
    for (int64_t i = begin; i < begin + l.group_size; ++i) {
      const int u = unpack_nibble(codes[static_cast<size_t>(i / 2)], i);
      lo = std::min(lo, u);
      hi = std::max(hi, u);
    }
    if (scale[g] < 1 || z > 15 || scale[g] * (lo - z) < -128 || scale[g] * (hi - z) > 127) {
      throw Error("{}: group {} (scale {}, zero point {}) leaves the int8 range; the file is damaged", where,
                  g, int{scale[g]}, z);
    }
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
  if (l.weight_format == WeightFormat::kUint4Grouped) return validate_groups(l, where);
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

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && (a.empty() || std::memcmp(a.data(), b.data(), a.bytes()) == 0);
}

}  // namespace

size_t QuantizedLinear::bytes() const {
  size_t total = 0;
  for (const auto& [name, tensor] : fields(*this)) total += tensor->bytes();
  return total;
}

int64_t QuantizedLinear::k_in() const {
  if (input_index.empty()) return k + outlier_index.size();
  int32_t last = -1;
  for (int32_t i : input_index.as<int32_t>()) last = std::max(last, i);
  for (int32_t i : outlier_index.as<int32_t>()) last = std::max(last, i);
  return int64_t{last} + 1;
}

QuantizedLinear QuantizedLinear::clone() const {
  QuantizedLinear copy;
  copy.n = n;
  copy.k = k;
  copy.group_size = group_size;
  copy.weight_format = weight_format;
  copy.activation = activation;
  const auto from = fields(*this);
  const auto to = fields(copy);
  for (size_t i = 0; i < from.size(); ++i) {
    if (!from[i].second->empty()) *to[i].second = Tensor(from[i].second->view());
  }
  return copy;
}

void QuantizedLinear::validate(const std::string& where) const {
  validate_weights(*this, where);
  validate_activation(*this, where);
  validate_outliers(*this, where);
  validate_map(*this, where);
}

bool same_input(const QuantizedLinear& a, const QuantizedLinear& b) {
  return a.k == b.k && a.activation == b.activation && same_bytes(a.input_scale, b.input_scale) &&
         same_bytes(a.outlier_index, b.outlier_index) && same_bytes(a.input_index, b.input_index) &&
         same_bytes(a.input_gain, b.input_gain) && same_bytes(a.input_offset, b.input_offset) &&
         same_bytes(a.input_repeat, b.input_repeat);
}

bool is_quantized(const Checkpoint& checkpoint, const std::string& prefix) {
  return checkpoint.contains(prefix + ".qweight") || qqq::is_quantized(checkpoint, prefix);
}

namespace {

/// Our own tensors, PREFIX.field.
QuantizedLinear load_fields(const Checkpoint& checkpoint, const std::string& prefix,
                            const std::string& where) {
  QuantizedLinear l;
  for (const auto& [name, tensor] : fields(l)) {
    const std::string full = prefix + "." + name;
    if (checkpoint.contains(full)) *tensor = Tensor(checkpoint.at(full));
  }
  const Shape& shape = l.qweight.shape();
  if (shape.size() != 2 || (l.qweight.dtype() != DType::kI8 && l.qweight.dtype() != DType::kU8)) {
    throw Error("{}: qweight is {} {}, expected I8 [N, K] or U8 [N, K/2]", where,
                tessera::name_of(l.qweight.dtype()), to_string(shape));
  }
  const bool packed = l.qweight.dtype() == DType::kU8;
  l.n = shape[0];
  l.k = packed ? shape[1] * 2 : shape[1];
  l.weight_format = !packed ? WeightFormat::kInt8
                            : (l.group_scale.empty() ? WeightFormat::kInt4 : WeightFormat::kUint4Grouped);
  if (!l.group_scale.empty() && l.group_scale.shape().size() == 2 && l.group_scale.shape()[1] > 0) {
    l.group_size = l.k / l.group_scale.shape()[1];
  }
  return l;
}

}  // namespace

QuantizedLinear load_quantized_linear(const Checkpoint& checkpoint, const std::string& prefix,
                                      const ActivationFormat& activation, int64_t n, int64_t k_in) {
  const std::string where = fmt::format("{}: {}", checkpoint.dir().string(), prefix);
  QuantizedLinear l = qqq::is_quantized(checkpoint, prefix) ? qqq::load_linear(checkpoint, prefix)
                                                            : load_fields(checkpoint, prefix, where);
  l.activation = activation;
  l.validate(where);
  for (const Tensor* index : {&l.input_index, &l.outlier_index}) {
    for (int32_t i : index->as<int32_t>()) {
      if (i < 0 || i >= k_in) throw Error("{}: input index {} is outside 0..{}", where, i, k_in - 1);
    }
  }
  if (l.n != n || l.k_in() != k_in) {
    throw Error("{}: {} outputs of {} inputs, config.json asks for {} of {}", where, l.n, l.k_in(), n, k_in);
  }
  return l;
}

std::vector<NamedTensor> named_tensors(const QuantizedLinear& linear, const std::string& prefix) {
  std::vector<NamedTensor> out;
  for (const auto& [name, tensor] : fields(linear)) {
    if (!tensor->empty()) out.push_back({prefix + "." + name, tensor->view()});
  }
  return out;
}

Tensor pack_int4(std::span<const int8_t> codes, int64_t n, int64_t k) {
  assert(k % 2 == 0 && codes.size() == static_cast<size_t>(n * k));
  Tensor packed(DType::kU8, {n, k / 2});
  const auto out = packed.as<uint8_t>();
  for (size_t i = 0; i < out.size(); ++i) out[i] = pack_nibbles(codes[2 * i], codes[2 * i + 1]);
  return packed;
}

std::vector<int8_t> unpack_int4(const Tensor& packed, int64_t n, int64_t k, WeightFormat format) {
  const auto in = packed.as<uint8_t>();
  std::vector<int8_t> codes(static_cast<size_t>(n * k));
  for (size_t i = 0; i < codes.size(); ++i) {
    const int nibble = unpack_nibble(in[i / 2], static_cast<int64_t>(i));
    codes[i] = static_cast<int8_t>(format == WeightFormat::kInt4 ? sign_extend_nibble(nibble) : nibble);
  }
  return codes;
}

}  // namespace tessera
