// Reading compressed-tensors' "quantization_config".
#include "tessera/format/foreign/compressed_tensors_config.h"

#include <algorithm>

namespace tessera::foreign {
namespace {

using Scheme = CompressedTensorsScheme;

void expect_empty(const JsonNode& section, const char* key, const char* reason) {
  const JsonNode node = section[key];
  if (!node.is_null() && !node.value().empty()) node.fail("{}; start from the float model", reason);
}

/// True for packed codes.
bool read_format(const JsonNode& format) {
  return format.choice<bool>(
      {{"pack-quantized", true}, {"int-quantized", false}, {"naive-quantized", false}});
}

/// "int", the type of all codes that are read here.
void expect_integers(const JsonNode& arguments) {
  const JsonNode type = arguments["type"];
  if (!type.is_null()) type.choice<int>({{"int", 0}});
}

void read_weights(const JsonNode& weights, Scheme& scheme) {
  expect_integers(weights);
  scheme.bits = weights["num_bits"].integer<int>(2, 8);
  scheme.symmetric = weights["symmetric"].get_or(true);
  const JsonNode strategy = weights["strategy"], size = weights["group_size"];
  const auto group_size = size.get_or(int64_t{-1});
  bool grouped = group_size > 0;
  if (!strategy.is_null())
    grouped = strategy.choice<bool>({{"tensor", false}, {"channel", false}, {"group", true}});
  if (grouped && group_size < 1) size.fail("{} is no size of a group", size.shown());
  scheme.group_size = grouped ? group_size : 0;
  const nlohmann::json& order = weights["actorder"].value();
  scheme.act_order = order == "group" || order == true;  // the latter as earlier versions wrote it
}

ActivationFormat read_activations(const JsonNode& arguments) {
  if (arguments.is_null()) return {.bits = 16};
  expect_integers(arguments);
  ActivationFormat format;
  const JsonNode bits = arguments["num_bits"], strategy = arguments["strategy"],
                 dynamic = arguments["dynamic"];
  format.bits = bits.get<int>();
  format.per_token = dynamic.get_or(false);
  if (format.bits != 8 && !(format.bits == 4 && format.per_token))
    bits.fail("{} is not readable here (8 is, and 4 with dynamic scales)", bits.shown());
  const auto per_token =
      strategy.is_null() ? false : strategy.choice<bool>({{"token", true}, {"tensor", false}});
  if (per_token != format.per_token)
    arguments.fail("one scale a token is dynamic, one a tensor static; others have no kernel");
  if (!arguments["symmetric"].get_or(true)) arguments.fail("asymmetric activations are not readable here");
  return format;
}

}  // namespace

CompressedTensorsConfig::CompressedTensorsConfig(const JsonNode& section) {
  expect_empty(section, "transform_config", "online transforms have no kernel");
  const JsonNode sparsity = section["sparsity_config"], status = section["quantization_status"];
  if (!sparsity.is_null() && !sparsity.value().empty()) sparsity["format"].choice<int>({{"dense", 0}});
  if (!status.is_null()) status.choice<int>({{"compressed", 0}});
  const JsonNode format = section["format"], groups = section["config_groups"];
  for (const auto& [name, group] : groups.members()) {
    expect_empty(group, "output_activations", "quantized outputs have no kernel");
    Scheme scheme;
    const JsonNode own = group["format"];
    scheme.packed = read_format(own.is_null() ? format : own);
    read_weights(group["weights"], scheme);
    scheme.activation = read_activations(group["input_activations"]);
    for (const JsonNode& target : group["targets"].items())
      targets_.push_back({ModulePattern(target), schemes_.size()});
    schemes_.push_back(scheme);
  }
  std::ranges::stable_sort(targets_, {}, [](const Target& target) { return target.pattern.kind(); });
  if (const JsonNode ignore = section["ignore"]; !ignore.is_null()) {
    for (const JsonNode& entry : ignore.items()) ignored_.emplace_back(entry);
  }
}

const Scheme* CompressedTensorsConfig::scheme_of(const std::string& linear) const {
  const auto names_it = [&](const ModulePattern& pattern) { return pattern.matches(linear); };
  if (std::ranges::any_of(ignored_, names_it)) return nullptr;
  const auto found = std::ranges::find_if(targets_, names_it, &Target::pattern);
  return found == targets_.end() ? nullptr : &schemes_[found->scheme];
}

}  // namespace tessera::foreign
