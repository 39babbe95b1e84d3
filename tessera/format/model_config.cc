// Reading config.json.
#include "tessera/format/model_config.h"

#include <algorithm>

#include "tessera/source/model_files.h"

namespace tessera {
namespace {

void collect_eos(const JsonNode& root, std::vector<int32_t>& ids) {
  const JsonNode eos = root["eos_token_id"];
  if (eos.is_null()) return;
  for (const JsonNode& node : eos.is_array() ? eos.items() : std::vector{eos}) {
    const auto id = node.get<int32_t>();
    if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  }
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

ModelConfig ModelConfig::load(const std::filesystem::path& model) {
  constexpr const char *kName = "config.json", *kGeneration = "generation_config.json";
  const ModelFiles files(model);
  if (!files.contains(kName)) {
    throw Error("{}: not there; is {} a Hugging Face model folder?", files.where(kName), model.string());
  }
  ModelConfig config(files.json(kName), files.where(kName));
  config.read_older_quantization(files);
  collect_eos(config.root(), config.eos_token_ids_);
  if (const std::string text = files.contains(kGeneration) ? files.read(kGeneration) : ""; !is_blank(text)) {
    const nlohmann::json settings = parse_json(text, files.where(kGeneration));
    collect_eos({settings, files.where(kGeneration)}, config.eos_token_ids_);
  }
  return config;
}

void ModelConfig::read_older_quantization(const ModelFiles& files) {
  constexpr const char* kOlderName = "quantize_config.json";
  if (!files.contains(kOlderName)) return;
  const nlohmann::json older = files.json(kOlderName);
  const JsonNode section = root()["quantization_config"], stated(older, files.where(kOlderName));
  if (section.is_null()) {
    older_quantization_ = stated.object();
    older_quantization_.emplace("quant_method", "gptq");
    older_file_ = files.where(kOlderName);
    return;
  }
  for (const char* key : {"bits", "group_size", "sym", "checkpoint_format"}) {
    const JsonNode here = stated[key], there = section[key];
    if (!here.is_null() && !there.is_null() && here.value() != there.value())
      here.fail("{}, but {} in {}; remove the file that is wrong", here.shown(), there.shown(), file_);
  }
}

JsonNode ModelConfig::quantization() const {
  if (older_quantization_.is_null()) return root()["quantization_config"];
  return {older_quantization_, older_file_};
}

std::string ModelConfig::architecture() const {
  const auto names = get<std::vector<std::string>>("architectures", {});
  return names.empty() ? "" : names[0];
}

int64_t ModelConfig::extent(const char* key) const {
  return root()[key].integer<int64_t>(1, int64_t{1} << 31);
}

const char* ModelConfig::present(std::initializer_list<const char*> keys) const {
  for (const char* key : keys) {
    if (has(key)) return key;
  }
  return *keys.begin();
}

RopeConfig ModelConfig::rope() const {
  RopeConfig rope;
  if (const double share = get<double>("partial_rotary_factor", 1.0); share != 1)
    root()["partial_rotary_factor"].fail("{}: heads that are rotated in part are not supported", share);
  rope.theta = get<double>("rope_theta", rope.theta);
  const JsonNode parameters = root()["rope_parameters"], older = root()["rope_scaling"];
  const JsonNode& scaling = parameters.is_null() ? older : parameters;
  if (scaling.is_null()) return rope;
  rope.theta = scaling["rope_theta"].get_or(rope.theta);
  std::string type = "default";
  for (const char* key : {"type", "rope_type"}) type = scaling[key].get_or(type);
  if (type == "default") return rope;
  if (type != "linear" && type != "llama3")
    scaling.fail("scaling type '{}' is not supported (default, linear and llama3 are)", type);
  rope.type = type == "linear" ? RopeConfig::Type::kLinear : RopeConfig::Type::kLlama3;
  rope.factor = scaling["factor"].get_or(rope.factor);
  rope.low_freq_factor = scaling["low_freq_factor"].get_or(rope.low_freq_factor);
  rope.high_freq_factor = scaling["high_freq_factor"].get_or(rope.high_freq_factor);
  rope.original_context = scaling["original_max_position_embeddings"].get_or(rope.original_context);
  if (!(rope.factor > 0) || !(rope.theta > 0) || !(rope.high_freq_factor > rope.low_freq_factor))
    scaling.fail("a factor is out of range");
  return rope;
}

}  // namespace tessera
