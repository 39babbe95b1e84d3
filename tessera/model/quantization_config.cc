// Reading the quantization section of config.json.
#include "tessera/model/quantization_config.h"

namespace tessera {

using nlohmann::json;

const ActivationFormat& QuantizationConfig::activation_of(const std::string& linear_name) const {
  const auto found = overrides.find(linear_name.substr(linear_name.rfind('.') + 1));
  return found == overrides.end() ? activation : found->second;
}

namespace {

/// Of QQQ's own program or GPTQModel: 4-bit weights, 8-bit codes, one scale a token.
QuantizationConfig read_qqq(const json& section, const std::string& where) {
  const json bits = section.value("wbits", section.value("bits", json(4)));
  if (bits != 4) throw Error("{}: weights of {} bits are not readable here (4 are)", where, bits.dump());
  return {};
}

}  // namespace

std::optional<QuantizationConfig> read_quantization_config(const ModelConfig& config) {
  if (!config.has("quantization_config")) return std::nullopt;
  const json& section = config.values()["quantization_config"];
  const std::string where = config.file() + ": quantization_config";
  if (!section.is_object()) throw Error("{} is not an object", where);

  const json method = section.value("quant_method", json());
  if (method == "qqq") return read_qqq(section, where);
  if (method != "tessera") {
    throw Error(
        "{}: quant_method {} is not readable here (\"tessera\" and \"qqq\" are); start from the float "
        "checkpoint",
        where, method.dump());
  }
  const json version = section.value("version", json());
  if (version != 1) {
    throw Error("{}: version {} is not readable here (1 is); quantize again or update", where,
                version.dump());
  }

  QuantizationConfig result;
  if (!section.contains("activation")) throw Error("{}: key 'activation' is missing", where);
  result.activation = activation_format_from_json(section["activation"], where + ".activation");
  const json overrides = section.value("activation_overrides", json::object());
  if (!overrides.is_object()) throw Error("{}: activation_overrides is not an object", where);
  for (const auto& [name, format] : overrides.items()) {
    result.overrides[name] =
        activation_format_from_json(format, fmt::format("{}.activation_overrides.{}", where, name));
  }
  const json bits = section.value("kv_bits", json(16));
  if (!bits.is_number_integer()) throw Error("{}: kv_bits {} is not an integer", where, bits.dump());
  result.kv_format = kv_format_of_bits(static_cast<int>(bits.get<int64_t>()), where + ".kv_bits");
  return result;
}

}  // namespace tessera
