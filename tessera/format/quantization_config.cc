// Reading and writing the quantization section of config.json.
#include "tessera/format/quantization_config.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace tessera {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

/// Another tool's checkpoints.
struct ForeignFormat {
  const char* quant_method;
  LinearReader (*reader)(const JsonNode& section);
};

constexpr ForeignFormat kForeignFormats[] = {{"awq", foreign::awq_reader},
                                             {"compressed-tensors", foreign::compressed_tensors_reader},
                                             {"gguf", foreign::gguf_reader},
                                             {"gptq", foreign::gptq_reader},
                                             {"qqq", foreign::qqq_reader}};

[[noreturn]] void fail_unknown(const JsonNode& method) {
  std::vector<std::string_view> known = {"tessera"};
  for (const ForeignFormat& format : kForeignFormats) known.emplace_back(format.quant_method);
  method.fail("{} is not readable here ({} are); start from the float checkpoint", method.shown(),
              fmt::join(known, ", "));
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
  const JsonNode section = config.quantization();
  if (section.is_null()) return std::nullopt;
  const JsonNode method = section["quant_method"], version = section["version"];
  for (const ForeignFormat& format : kForeignFormats) {
    if (method.value() == format.quant_method)
      return QuantizationConfig{.read_linear = format.reader(section)};
  }
  if (method.value() != "tessera") fail_unknown(method);
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
