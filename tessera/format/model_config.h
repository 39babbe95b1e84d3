// config.json of a model, with the differences between its dialects taken out.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/base/json_node.h"

namespace tessera {

class ModelFiles;

/// Rotary position embedding parameters.
struct RopeConfig {
  enum class Type { kDefault, kLinear, kLlama3 };
  Type type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0;             ///< kLinear: positions are divided by it; kLlama3: lowest frequencies are
  double low_freq_factor = 1.0;    ///< kLlama3
  double high_freq_factor = 4.0;   ///< kLlama3
  double original_context = 8192;  ///< kLlama3: context length of the pre-training
};

/// A parsed config.json. Getters throw Error naming the file and the key.
class ModelConfig {
 public:
  /// Of a Hugging Face folder or a GGUF file.
  static ModelConfig load(const std::filesystem::path& model);
  ModelConfig(nlohmann::json values, std::string file) : values_(std::move(values)), file_(std::move(file)) {}

  const nlohmann::json& values() const { return values_; }
  /// The same, for typed access.
  JsonNode root() const { return {values_, file_}; }
  const std::string& file() const { return file_; }

  /// architectures[0], such as "LlamaForCausalLM"; empty where none is named.
  std::string architecture() const;
  bool has(const char* key) const { return !root()[key].is_null(); }
  /// Whether the key is there, even as null: Transformers has defaults for what is absent alone.
  bool states(const char* key) const { return root().object().contains(key); }

  /// The value of a key that must be there.
  template <class T>
  T get(const char* key) const {
    return root()[key].get<T>();
  }
  /// The value, or `fallback` when the key is absent or null.
  template <class T>
  T get(const char* key, T fallback) const {
    return root()[key].get_or(std::move(fallback));
  }
  /// A positive integer that must be there.
  int64_t extent(const char* key) const;
  /// The first of several names of one value that is there; the first of all when none is.
  const char* present(std::initializer_list<const char*> keys) const;

  /// How the weights are quantized: the section "quantization_config", or the content of
  /// quantize_config.json, where AutoGPTQ alone said it once. A null node: they are floats.
  JsonNode quantization() const;

  /// Reads both dialects: rope_theta + rope_scaling (Transformers up to 4) and rope_parameters (from 5 on).
  /// Throws Error for a scaling type other than default, linear, llama3.
  RopeConfig rope() const;
  /// eos_token_id of config.json and generation_config.json together; each may be a number or a list.
  std::vector<int32_t> eos_token_ids() const { return eos_token_ids_; }

 private:
  void read_older_quantization(const ModelFiles& files);

  nlohmann::json values_;
  std::string file_;
  nlohmann::json older_quantization_ = nullptr;
  std::string older_file_;
  std::vector<int32_t> eos_token_ids_;
};

}  // namespace tessera
