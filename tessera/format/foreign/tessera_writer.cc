// Our own checkpoints, for layers that were read from other tools'.
#include "tessera/format/foreign/writing.h"
#include "tessera/format/quantization_config.h"

namespace tessera::foreign {

WrittenLinear write_tessera(const QuantizedLinear& linear, const std::string& where, const WriteOptions&) {
  linear.require_kernel(where);
  WrittenLinear out;
  for (const NamedTensor& named : named_tensors(linear, "")) {
    if (named.name != ".bias") out.tensors.emplace_back(named.name.substr(1), Tensor(named.tensor));
  }
  out.scheme = to_json(linear.activation);
  out.form = describe(linear);
  return out;
}

nlohmann::json tessera_config(const std::vector<LinearScheme>& linears) {
  QuantizationConfig config;
  bool first = true;
  for (const LinearScheme& linear : linears) {
    if (linear.scheme.is_null()) continue;
    const ActivationFormat format = activation_format_from_json({linear.scheme, linear.name});
    if (first) config.activation = format;
    first = false;
    // One format for all linears of a name: it stands in the settings beside the others.
    const auto [entry, inserted] = config.overrides.emplace(last_component(linear.name), format);
    if (entry->second != format) {
      throw Error("{}: its inputs are quantized as in no other {}; tessera's settings cannot say that",
                  linear.name, entry->first);
    }
  }
  std::erase_if(config.overrides, [&](const auto& entry) { return entry.second == config.activation; });
  return config.to_json();
}

}  // namespace tessera::foreign
