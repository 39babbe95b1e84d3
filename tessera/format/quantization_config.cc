// Reading and writing the quantization section of config.json.
#include "tessera/format/quantization_config.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

/// Of QQQ's own program or GPTQModel: 4-bit weights, 8-bit codes, one scale a token.
QuantizationConfig read_qqq(const JsonNode& section) {
  const auto bits = section["wbits"].get_or(section["bits"].get_or(4));
  if (bits != 4) section.fail("weights of {} bits are not readable here (4 are)", bits);
  return {};
}

}  // namespace

std::string last_component(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

const ActivationFormat& QuantizationConfig::activation_of(const std::string& linear_name) const {
  const auto found = overrides.find(last_component(linear_name));
  return found == overrides.end() ? activation : found->second;
}

json QuantizationConfig::to_json() const {
  json formats = json::object();
  for (const auto& [name, format] : overrides) formats[name] = tessera::to_json(format);
  return {{"quant_method", "tessera"},
          {"version", kVersion},
          {"recipe", recipe},
          {"activation", tessera::to_json(activation)},
          {"activation_overrides", formats},
          {"kv_bits", kv_bits(kv_format)}};
}

std::optional<QuantizationConfig> read_quantization_config(const ModelConfig& config) {
  const JsonNode section = config.root()["quantization_config"];
  if (section.is_null()) return std::nullopt;
  const JsonNode method = section["quant_method"], version = section["version"];
  if (method.value() == "qqq") return read_qqq(section);
  if (method.value() != "tessera") {
    method.fail("{} is not readable here (\"tessera\" and \"qqq\" are); start from the float checkpoint",
                method.shown());
  }
  if (version.value() != kVersion) {
    version.fail("{} is not readable here ({} is); quantize again or update", version.shown(), kVersion);
  }
  QuantizationConfig result{.activation = activation_format_from_json(section["activation"]),
                            .recipe = section["recipe"].value()};
  if (const JsonNode overrides = section["activation_overrides"]; !overrides.is_null()) {
    for (const auto& [name, format] : overrides.members())
      result.overrides[name] = activation_format_from_json(format);
  }
  const JsonNode bits = section["kv_bits"];
  result.kv_format = kv_format_of_bits(bits.get_or(16), bits.where());
  return result;
}

}  // namespace tessera
