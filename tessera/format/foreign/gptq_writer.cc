// GPTQ checkpoints, in both conventions of zero points.
#include <algorithm>

#include "tessera/format/foreign/writing.h"

namespace tessera::foreign {
namespace {

using nlohmann::json;

/// I32 [K bits / 32, N]
Tensor packed_codes(const AffineWeights& w) {
  Tensor packed(DType::kI32, {PackedFields::words(w.k, w.bits), w.n});
  parallel_blocks(w.n, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      pack_fields(packed.as<int32_t>(), n, w.n, w.bits, w.k, [&](int64_t k) { return code_at(w, n, k); });
  });
  return packed;
}

/// I32 [groups, N bits / 32] of the zero points less `less`.
Tensor packed_zeros(const AffineWeights& w, int less) {
  const int64_t words = PackedFields::words(w.n, w.bits);
  Tensor packed(DType::kI32, {w.groups, words});
  for (int64_t g = 0; g < w.groups; ++g) {
    pack_fields(packed.as<int32_t>(), g * words, 1, w.bits, w.n, [&](int64_t n) {
      const int zero = zero_at(w, n, g) - less;
      if (zero < 0)
        throw Error("{}: the zero point 0 of output {}, group {} has no sure form in gptq; --to gptq_v2 has",
                    w.where, n, g);
      return static_cast<uint8_t>(zero);
    });
  }
  return packed;
}

/// I32 [K]: the group of every input.
Tensor input_groups(const AffineWeights& w) {
  if (!w.input_group.empty()) return Tensor::from<int32_t>(w.input_group, {w.k});
  Tensor groups(DType::kI32, {w.k});
  for (int64_t k = 0; k < w.k; ++k)
    groups.as<int32_t>()[static_cast<size_t>(k)] = static_cast<int32_t>(k / w.group_size());
  return groups;
}

WrittenLinear write(const QuantizedLinear& linear, const std::string& where, const WriteOptions& options,
                    int zeros_less) {
  const AffineWeights w = weights_to_write(linear, where, options);
  const int64_t word_codes = 32 / w.bits;
  expect_multiple(w, "inputs", w.k, word_codes);
  expect_multiple(w, "outputs", w.n, word_codes);
  Narrowing narrowing(where, options.round);
  WrittenLinear out;
  out.tensors.emplace_back("qweight", packed_codes(w));
  out.tensors.emplace_back("qzeros", packed_zeros(w, zeros_less));
  out.tensors.emplace_back("scales", transposed_scales(w, narrowing));
  out.tensors.emplace_back("g_idx", input_groups(w));
  out.scheme = group_scheme(w);
  out.scheme["bits"] = w.bits;
  out.scheme["asymmetric"] = !is_symmetric(w);
  out.scheme["desc_act"] = !w.input_group.empty();
  out.form = describe(w);
  out.rounding = narrowing.rounding();
  return out;
}

/// The one number of bits of all linears.
int common_bits(const std::vector<LinearScheme>& linears) {
  int bits = 0;
  for (const LinearScheme& linear : linears) {
    if (linear.scheme.is_null()) continue;
    const int own = linear.scheme.at("bits").get<int>();
    if (bits != 0 && bits != own) {
      throw Error(
          "{}: has codes of {} bits, others of {}, and gptq has one number for all; --to "
          "compressed-tensors holds both",
          linear.name, own, bits);
    }
    bits = own;
  }
  return bits;
}

/// A pattern that leaves a module in floats.
std::string exclusion(const std::string& name) {
  std::string pattern = "-:";
  for (char c : name) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  return pattern;
}

json config(const std::vector<LinearScheme>& linears, const char* format) {
  const auto says = [&](const LinearScheme& linear, const char* key) {
    return !linear.scheme.is_null() && linear.scheme.at(key).get<bool>();
  };
  const auto asymmetric = [&](const LinearScheme& linear) { return says(linear, "asymmetric"); };
  const auto act_order = [&](const LinearScheme& linear) { return says(linear, "desc_act"); };
  json section = {{"quant_method", "gptq"},
                  {"bits", common_bits(linears)},
                  {"group_size", common_group_size(linears)},
                  {"sym", std::ranges::none_of(linears, asymmetric)},
                  {"desc_act", std::ranges::any_of(linears, act_order)},
                  {"lm_head", false},
                  {"checkpoint_format", format},
                  {"pack_dtype", "int32"}};
  for (const std::string& name : float_linears(linears)) section["dynamic"][exclusion(name)] = json::object();
  return section;
}

}  // namespace

WrittenLinear write_gptq(const QuantizedLinear& linear, const std::string& where,
                         const WriteOptions& options) {
  return write(linear, where, options, 1);
}
WrittenLinear write_gptq_v2(const QuantizedLinear& linear, const std::string& where,
                            const WriteOptions& options) {
  return write(linear, where, options, 0);
}
json gptq_config(const std::vector<LinearScheme>& linears) {
  return config(linears, "gptq");
}
json gptq_v2_config(const std::vector<LinearScheme>& linears) {
  return config(linears, "gptq_v2");
}

}  // namespace tessera::foreign
