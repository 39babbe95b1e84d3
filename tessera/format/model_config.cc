// Reading config.json.
#include "tessera/format/model_config.h"

#include <algorithm>

#include "tessera/base/atomic_output.h"

namespace tessera {
namespace {

using nlohmann::json;

json parse_object(const std::filesystem::path& path) {
  json values = json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!values.is_object()) throw Error("{}: not a JSON object", path.string());
  return values;
}

void collect_eos(const json& values, std::vector<int32_t>& ids) {
  if (!values.contains("eos_token_id")) return;
  const json& eos = values["eos_token_id"];
  for (const json& id : eos.is_array() ? eos : json::array({eos})) {
    if (id.is_number_integer() && std::find(ids.begin(), ids.end(), id.get<int32_t>()) == ids.end()) {
      ids.push_back(id.get<int32_t>());
    }
  }
}

double number(const json& object, const char* key, double fallback, const std::string& file) {
  if (!object.contains(key) || object[key].is_null()) return fallback;
  if (!object[key].is_number()) throw Error("{}: rope key '{}' is not a number", file, key);
  return object[key].get<double>();
}

}  // namespace

ModelConfig ModelConfig::load(const std::filesystem::path& model_dir) {
  if (!std::filesystem::is_directory(model_dir)) throw Error("{}: no such model folder", model_dir.string());
  const std::filesystem::path path = model_dir / "config.json";
  if (!std::filesystem::exists(path)) {
    throw Error("{}: not there; is {} a Hugging Face model folder?", path.string(), model_dir.string());
  }
  ModelConfig config(parse_object(path), path.string());
  collect_eos(config.values_, config.eos_token_ids_);
  const std::filesystem::path generation = model_dir / "generation_config.json";
  if (std::filesystem::exists(generation)) collect_eos(parse_object(generation), config.eos_token_ids_);
  return config;
}

std::string ModelConfig::architecture() const {
  const auto names = get<std::vector<std::string>>("architectures");
  if (names.empty()) throw Error("{}: 'architectures' is empty", file_);
  return names[0];
}

int64_t ModelConfig::extent(const char* key) const {
  const int64_t value = get<int64_t>(key);
  if (value < 1 || value > (int64_t{1} << 31))
    throw Error("{}: '{}' = {} is out of range", file_, key, value);
  return value;
}

const char* ModelConfig::present(std::initializer_list<const char*> keys) const {
  for (const char* key : keys) {
    if (has(key)) return key;
  }
  return *keys.begin();
}

RopeConfig ModelConfig::rope() const {
  json scaling = json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (has(key)) scaling = values_[key];
  }
  if (!scaling.is_object()) throw Error("{}: rope parameters are not an object", file_);
  RopeConfig rope;
  rope.theta = number(scaling, "rope_theta", get<double>("rope_theta", 10000.0), file_);
  std::string type = "default";
  for (const char* key : {"type", "rope_type"}) {
    if (scaling.contains(key) && scaling[key].is_string()) type = scaling[key].get<std::string>();
  }
  if (type == "default") return rope;
  if (type != "linear" && type != "llama3") {
    throw Error("{}: rope scaling type '{}' is not supported (default, linear and llama3 are)", file_, type);
  }
  rope.type = type == "linear" ? RopeConfig::Type::kLinear : RopeConfig::Type::kLlama3;
  rope.factor = number(scaling, "factor", 1.0, file_);
  rope.low_freq_factor = number(scaling, "low_freq_factor", 1.0, file_);
  rope.high_freq_factor = number(scaling, "high_freq_factor", 4.0, file_);
  rope.original_context = number(scaling, "original_max_position_embeddings", 8192.0, file_);
  if (!(rope.factor > 0) || !(rope.theta > 0) || !(rope.high_freq_factor > rope.low_freq_factor)) {
    throw Error("{}: rope parameters are out of range", file_);
  }
  return rope;
}

}  // namespace tessera
