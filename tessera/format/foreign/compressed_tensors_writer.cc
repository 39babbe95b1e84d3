// compressed-tensors checkpoints. Keys and layouts: the library's QuantizationScheme, pack_to_int32. Unknown
// keys make a file unreadable for some versions, so no more is written than what every version needs.
#include <algorithm>
#include <map>

#include "tessera/format/foreign/writing.h"

namespace tessera::foreign {
namespace {

using nlohmann::json;

/// The version whose library the tests read our files with.
constexpr const char* kVersion = "0.20.1";
constexpr const char* kPacked = "pack-quantized";
constexpr const char* kBytes = "int-quantized";

/// "input_activations"; null for floats.
json activation_arguments(const ActivationFormat& activation, const std::string& where) {
  if (activation.weight_only()) return nullptr;
  const bool static_scale = !activation.per_token;
  if (!activation.symmetric)
    throw Error(
        "{}: compressed-tensors' readers run no inputs with zero points; quantize with symmetric ones",
        where);
  if (activation.bits != 8 && (activation.bits != 4 || static_scale)) {
    throw Error("{}: inputs of {} bits run in tessera alone; quantize them to 8 bits", where,
                activation.bits);
  }
  return {{"num_bits", activation.bits},
          {"type", "int"},
          {"symmetric", true},
          {"strategy", static_scale ? "tensor" : "token"},
          {"dynamic", !static_scale}};
}

json weight_arguments(const AffineWeights& w) {
  json arguments = {{"num_bits", w.bits},
                    {"type", "int"},
                    {"symmetric", is_symmetric(w)},
                    {"strategy", w.groups == 1 ? "channel" : "group"},
                    {"dynamic", false}};
  if (w.groups > 1) arguments["group_size"] = w.group_size();
  return arguments;
}

/// I32 [N, ceil(K bits / 32)], and the shape.
void add_packed_codes(const AffineWeights& w, WrittenLinear& out) {
  const int64_t words = PackedFields::words(w.k, w.bits);
  Tensor packed(DType::kI32, {w.n, words});
  parallel_for(w.n, [&](int64_t n) {
    pack_fields(packed.as<int32_t>(), n * words, 1, w.bits, w.k, [&](int64_t k) { return code_at(w, n, k); });
  });
  out.tensors.emplace_back("weight_packed", std::move(packed));
  out.tensors.emplace_back("weight_shape", Tensor::from<int64_t>(std::vector{w.n, w.k}, {2}));
}

/// I8 [N, K].
Tensor byte_codes(const AffineWeights& w) {
  Tensor bytes(DType::kI8, {w.n, w.k});
  std::ranges::transform(w.codes, bytes.as<int8_t>().begin(),
                         [](int code) { return static_cast<int8_t>(code - 128); });
  return bytes;
}

/// I32 [ceil(N bits / 32), groups], packed along the outputs.
Tensor packed_zeros(const AffineWeights& w) {
  Tensor packed(DType::kI32, {PackedFields::words(w.n, w.bits), w.groups});
  for (int64_t g = 0; g < w.groups; ++g)
    pack_fields(packed.as<int32_t>(), g, w.groups, w.bits, w.n, [&](int64_t n) { return zero_at(w, n, g); });
  return packed;
}

template <class T>
Tensor scales_as(const AffineWeights& w, Narrowing& narrowing) {
  Tensor scales(DTypeOf<T>::value, {w.n, w.groups});
  for (size_t i = 0; i < w.scales.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    scales.as<T>()[i] = narrowing.scale<T>(w.scales[i], at / w.groups, at % w.groups);
  }
  return scales;
}

}  // namespace

WrittenLinear write_compressed_tensors(const QuantizedLinear& linear, const std::string& where,
                                       const WriteOptions& options) {
  const AffineWeights w = weights_to_write(linear, where, options);
  expect_ordered_inputs(w, "compressed-tensors");
  const json activation = activation_arguments(linear.activation, where);
  Narrowing narrowing(where, options.round);
  WrittenLinear out;
  // vLLM's kernels for 8 x 8 bits read a code a byte and float32 scales, all others packed codes and scales
  // of the model's type.
  const bool bytes = w.bits == 8 && linear.activation.bits == 8;
  if (bytes) {
    out.tensors.emplace_back("weight", byte_codes(w));
    out.tensors.emplace_back("weight_scale", scales_as<float>(w, narrowing));
  } else {
    add_packed_codes(w, out);
    out.tensors.emplace_back("weight_scale", scales_as<Half>(w, narrowing));
    if (!is_symmetric(w)) out.tensors.emplace_back("weight_zero_point", packed_zeros(w));
  }
  if (!linear.input_scale.empty()) out.tensors.emplace_back("input_scale", Tensor(linear.input_scale.view()));
  out.scheme = {{"weights", weight_arguments(w)},
                {"input_activations", activation},
                {"output_activations", nullptr},
                {"format", bytes ? kBytes : kPacked}};
  out.form = fmt::format("{}, {}", describe(w), bytes ? kBytes : kPacked);
  out.rounding = narrowing.rounding();
  return out;
}

json compressed_tensors_config(const std::vector<LinearScheme>& linears) {
  std::map<json, std::vector<std::string>> targets;  // of every scheme
  for (const LinearScheme& linear : linears) {
    if (!linear.scheme.is_null()) targets[linear.scheme].push_back(linear.name);
  }
  json groups = json::object();
  bool mixed = false;
  for (const auto& [scheme, names] : targets) {
    json group = scheme;
    group["targets"] = targets.size() == 1 ? std::vector<std::string>{"Linear"} : names;
    mixed |= scheme.at("format") != targets.begin()->first.at("format");
    groups[fmt::format("group_{}", groups.size())] = group;
  }
  std::vector<std::string> ignored = float_linears(linears);
  ignored.emplace_back("lm_head");
  return {{"quant_method", "compressed-tensors"},
          {"format", mixed ? json("mixed-precision") : targets.begin()->first.at("format")},
          {"quantization_status", "compressed"},
          {"config_groups", groups},
          {"ignore", ignored},
          {"kv_cache_scheme", nullptr},
          {"global_compression_ratio", nullptr},
          {"sparsity_config", json::object()},
          {"transform_config", json::object()},
          {"version", kVersion}};
}

}  // namespace tessera::foreign
