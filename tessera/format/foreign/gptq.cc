// GPTQ checkpoints (AutoGPTQ, GPTQModel, Transformers).
#include <algorithm>

#include "tessera/format/foreign/packed_fields.h"
#include "tessera/format/foreign/readers.h"
#include "tessera/format/foreign/stored_linear.h"

namespace tessera::foreign {
namespace {

/// What config.json says.
struct Config {
  int bits = 4;
  bool symmetric = false;
  bool act_order = false;
  std::optional<int64_t> group_size = {};
  int stored_less = 1;  ///< zero points are stored less this: 1 in the first convention, 0 in the second
};

/// What to add to the stored zero points. Where all must be the middle code the values decide, because labels
/// lie (AutoGPTQ and vLLM have both read files of the other convention); elsewhere only the label can.
int zero_offset(const Config& config, const AffineWeights& w) {
  if (!config.symmetric) return config.stored_less;
  const auto all = [&](int value) {
    return std::ranges::all_of(w.zeros, [&](int zero) { return zero == value; });
  };
  for (int offset : {0, 1}) {
    if (all(w.middle() - offset)) return offset;
  }
  throw Error("{}.qzeros: zero points differ, but config.json says sym: true", w.where);
}

void read_zeros(const Config& config, const StoredLinear& stored, AffineWeights& w) {
  const int64_t words = PackedFields::words(w.n, w.bits);
  const auto zeros = stored.values<int32_t>("qzeros", {w.groups, words});
  fill_zeros(w, [&](int64_t n, int64_t g) { return PackedFields(zeros, g * words, 1, w.bits)[n]; });
  const int offset = zero_offset(config, w);
  if (offset > 0 && std::ranges::find(w.zeros, w.largest()) != w.zeros.end()) {
    throw Error(
        "{}.qzeros: a stored {} is {} to some programs and a wrapped 0 to others; save the model as "
        "checkpoint_format gptq_v2",
        w.where, w.largest(), w.largest() + 1);
  }
  for (uint8_t& zero : w.zeros) zero = static_cast<uint8_t>(zero + offset);
}

QuantizedLinear read(const Config& config, const Checkpoint& checkpoint, const std::string& prefix) {
  const StoredLinear stored(checkpoint, prefix);
  AffineWeights w{.where = stored.where(), .bits = config.bits};
  const auto [rows, outputs] = stored.matrix("qweight");
  w.n = outputs;
  w.k = rows * 32 / w.bits;
  w.groups = stored.matrix("scales").first;
  const auto words = stored.values<int32_t>("qweight", {rows, outputs});
  fill_codes(w, [&](int64_t n, int64_t k) { return PackedFields(words, n, w.n, w.bits)[k]; });
  read_zeros(config, stored, w);
  transpose_scales(w, stored.floats("scales", {w.groups, w.n}));
  if (stored.has("g_idx")) {
    const auto groups = stored.values<int32_t>("g_idx", {w.k});
    w.input_group.assign(groups.begin(), groups.end());
  } else if (config.act_order && w.groups > 1) {
    throw Error("{}: g_idx is missing, but config.json says desc_act: true", w.where);
  }
  check_group_size(w.where, config.group_size, w.k, w.groups);
  QuantizedLinear linear = to_quantized_linear(std::move(w), {.bits = 16});
  linear.bias = stored.bias(linear.n);
  return linear;
}

}  // namespace

LinearReader gptq_reader(const JsonNode& section) {
  Config config;
  const JsonNode bits = section["bits"], packing = section["pack_dtype"], dynamic = section["dynamic"];
  config.bits = bits.get<int>();
  if (config.bits != 2 && config.bits != 3 && config.bits != 4 && config.bits != 8)
    bits.fail("codes of {} bits are not readable here (2, 3, 4 and 8 are)", config.bits);
  if (const JsonNode size = section["group_size"]; !size.is_null()) config.group_size = size.get<int64_t>();
  config.symmetric = section["sym"].get_or(false);
  config.act_order = section["desc_act"].get_or(false);
  const JsonNode format = section["checkpoint_format"], older = section["format"];
  const JsonNode& label = format.is_null() ? older : format;
  if (!label.is_null()) config.stored_less = label.choice<int>({{"gptq", 1}, {"gptq_v2", 0}});
  if (section["is_marlin_format"].get_or(false))
    section.fail("is_marlin_format: repacked files are not readable");
  if (!packing.is_null()) packing.choice<int>({{"int32", 32}});
  if (!dynamic.is_null()) {
    for (const auto& [pattern, settings] : dynamic.members()) {
      if (!pattern.starts_with("-:")) settings.fail("settings of single modules are not readable here");
    }
  }
  return [config](const Checkpoint& checkpoint, const std::string& prefix) {
    return read(config, checkpoint, prefix);
  };
}

}  // namespace tessera::foreign
