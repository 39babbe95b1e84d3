// QuantizedLinear: packing, validation, disk form.
#include "tessera/format/quantized_linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"

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
    case WeightFormat::kUint4Float:
      return "uint4-float";
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
  if (l.weight_format == WeightFormat::kUint4Float) text += " f16 scales";
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

WeightFormat format_of(const QuantizedLinear& l) {
  if (l.qweight.dtype() == DType::kI8) return WeightFormat::kInt8;
  if (l.group_scale.empty()) return WeightFormat::kInt4;
  return l.group_scale.dtype() == DType::kF16 ? WeightFormat::kUint4Float : WeightFormat::kUint4Grouped;
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

bool same_input(const QuantizedLinear& a, const QuantizedLinear& b) {
  return a.k == b.k && a.activation == b.activation && same_bytes(a.input_scale, b.input_scale) &&
         same_bytes(a.outlier_index, b.outlier_index) && same_bytes(a.input_index, b.input_index) &&
         same_bytes(a.input_gain, b.input_gain) && same_bytes(a.input_offset, b.input_offset) &&
         same_bytes(a.input_repeat, b.input_repeat);
}

std::vector<NamedTensor> named_tensors(const QuantizedLinear& linear, const std::string& prefix) {
  std::vector<NamedTensor> out;
  for (const auto& [name, tensor] : fields(linear)) {
    if (!tensor->empty()) out.push_back({prefix + "." + name, tensor->view()});
  }
  return out;
}

QuantizedLinear read_tensors(const Checkpoint& checkpoint, const std::string& prefix) {
  QuantizedLinear l;
  for (const auto& [name, tensor] : fields(l)) {
    const std::string full = prefix + "." + name;
    if (checkpoint.contains(full)) *tensor = Tensor(checkpoint.at(full));
  }
  const Shape& shape = l.qweight.shape();
  if (shape.size() != 2 || (l.qweight.dtype() != DType::kI8 && l.qweight.dtype() != DType::kU8)) {
    throw Error("{}: {}.qweight is {} {}, expected I8 [N, K] or U8 [N, K/2]", checkpoint.dir().string(),
                prefix, tessera::name_of(l.qweight.dtype()), to_string(shape));
  }
  l.weight_format = format_of(l);
  l.n = shape[0];
  l.k = l.weight_format == WeightFormat::kInt8 ? shape[1] : shape[1] * 2;
  if (!l.group_scale.empty() && l.group_scale.shape().size() == 2 && l.group_scale.shape()[1] > 0) {
    l.group_size = l.k / l.group_scale.shape()[1];
  }
  return l;
}

Tensor pack_int4(std::span<const int8_t> codes, int64_t n, int64_t k) {
  assert(k % 2 == 0 && codes.size() == static_cast<size_t>(n * k));
  Tensor packed(DType::kU8, {n, k / 2});
  const auto out = packed.as<uint8_t>();
  const auto row_bytes = static_cast<size_t>(k / 2);
  parallel_for(n, [&](int64_t row) {
    const size_t begin = static_cast<size_t>(row) * row_bytes;
    for (size_t i = begin; i < begin + row_bytes; ++i) out[i] = pack_nibbles(codes[2 * i], codes[2 * i + 1]);
  });
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
