// Metadata to config.json.
#include "tessera/source/gguf_config.h"

#include <algorithm>
#include <array>

#include "tessera/base/error.h"

namespace tessera {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kLargest = int64_t{1} << 31;

/// Parameters that are translated here, or change nothing. Any other one might change what the model
/// computes.
constexpr std::array<std::string_view, 21> kKnownParameters = {"attention.head_count",
                                                               "attention.head_count_kv",
                                                               "attention.key_length",
                                                               "attention.layer_norm_rms_epsilon",
                                                               "attention.sliding_window",
                                                               "attention.value_length",
                                                               "block_count",
                                                               "context_length",
                                                               "embedding_length",
                                                               "expert_count",
                                                               "expert_used_count",
                                                               "feed_forward_length",
                                                               "rope.dimension_count",
                                                               "rope.freq_base",
                                                               "rope.scale_linear",
                                                               "rope.scaling.factor",
                                                               "rope.scaling.finetuned",
                                                               "rope.scaling.original_context_length",
                                                               "rope.scaling.type",
                                                               "tensor_data_layout",
                                                               "vocab_size"};

void check_parameters(const GgufModel& model) {
  const std::string prefix = model.architecture() + ".";
  for (const auto& [key, value] : model.metadata().object()) {
    if (!key.starts_with(prefix)) continue;
    if (std::ranges::find(kKnownParameters, std::string_view(key).substr(prefix.size())) ==
        kKnownParameters.end())
      model.metadata()[key].fail("tessera does not know what this parameter changes");
  }
  for (const char* key : {"expert_count", "expert_used_count"}) {
    const JsonNode experts = model.parameter(key);
    if (experts.get_or<int64_t>(0) != 0) experts.fail("mixtures of experts are not supported");
  }
}

/// A float32 number as the decimal that it was before: 1e-5, not 9.99999975e-06.
double shortest(double value) {
  return std::stod(fmt::format("{}", static_cast<float>(value)));
}

int64_t extent(const GgufModel& model, const char* key) {
  return model.parameter(key).integer<int64_t>(1, kLargest);
}
int64_t extent(const GgufModel& model, const char* key, int64_t fallback) {
  return model.parameter(key).is_null() ? fallback : extent(model, key);
}

/// Of all heads: keys, values and rotation share it.
int64_t head_dim(const GgufModel& model) {
  const int64_t even = extent(model, "embedding_length") / extent(model, "attention.head_count");
  const int64_t dim = extent(model, "attention.key_length", even);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    if (extent(model, key, dim) != dim) {
      model.parameter(key).fail("{} differs from the {} of keys, which is not supported", extent(model, key),
                                dim);
    }
  }
  return dim;
}

/// The factors of LLaMA 3 come as a tensor. Their largest is the factor; the other constants are those of all
/// its models, and check_tensors (arch/) compares what they give with the tensor.
ordered_json llama3_scaling(const GgufModel& model) {
  const std::vector<float> factors = to_floats(model.read(kRopeFactors));
  return {{"rope_type", "llama3"},
          {"factor", shortest(*std::ranges::max_element(factors))},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", extent(model, "rope.scaling.original_context_length", 8192)}};
}

ordered_json rope_scaling(const GgufModel& model) {
  if (model.tensors().contains(kRopeFactors)) return llama3_scaling(model);
  const JsonNode type = model.parameter("rope.scaling.type"), older = model.parameter("rope.scale_linear"),
                 factor = model.parameter("rope.scaling.factor");
  if (type.is_null() ? older.is_null() : type.string() == "none") return nullptr;
  if (!type.is_null() && type.string() != "linear")
    type.fail("'{}' is not supported (known: none, linear)", type.string());
  const JsonNode& divisor = factor.is_null() ? older : factor;
  return {{"rope_type", "linear"}, {"factor", shortest(divisor.number(1e-3, 1e6))}};
}

bool has_tensor(const GgufModel& model, std::string_view ending) {
  return std::ranges::any_of(model.tensors(),
                             [&](const auto& named) { return named.first.ends_with(ending); });
}

/// Class and model_type of Transformers.
std::pair<const char*, const char*> class_of(const GgufModel& model, int64_t sliding_window) {
  if (model.architecture() == "qwen2") return {"Qwen2ForCausalLM", "qwen2"};
  if (model.architecture() == "qwen3") return {"Qwen3ForCausalLM", "qwen3"};
  if (sliding_window > 0) return {"MistralForCausalLM", "mistral"};
  return {"LlamaForCausalLM", "llama"};
}

/// A token id of the metadata, or null.
ordered_json token_id(const GgufModel& model, const char* name) {
  const JsonNode node = model.metadata()[fmt::format("tokenizer.ggml.{}_token_id", name)];
  if (node.is_null()) return nullptr;
  return node.integer<int64_t>(0, kLargest);
}

}  // namespace

ordered_json gguf_config(const GgufModel& model) {
  check_parameters(model);
  const auto embedding = model.tensors().find("model.embed_tokens.weight");
  if (embedding == model.tensors().end())
    throw Error("{}: tensor token_embd.weight is missing", model.files()[0].string());
  const auto sliding_window = model.parameter("attention.sliding_window").get_or<int64_t>(0);
  const auto [architecture, type] = class_of(model, sliding_window);
  const int64_t heads = extent(model, "attention.head_count");
  const JsonNode theta = model.parameter("rope.freq_base");
  ordered_json config = {
      {"architectures", {architecture}},
      {"model_type", type},
      {"vocab_size", embedding->second.shape[0]},
      {"hidden_size", extent(model, "embedding_length")},
      {"intermediate_size", extent(model, "feed_forward_length")},
      {"num_hidden_layers", extent(model, "block_count")},
      {"num_attention_heads", heads},
      {"num_key_value_heads", extent(model, "attention.head_count_kv", heads)},
      {"head_dim", head_dim(model)},
      {"hidden_act", "silu"},
      {"max_position_embeddings", extent(model, "context_length")},
      {"rms_norm_eps", shortest(model.parameter("attention.layer_norm_rms_epsilon").number(0, 1))},
      {"rope_theta", theta.is_null() ? 10000.0 : shortest(theta.number(1, 1e12))},
      {"rope_scaling", rope_scaling(model)},
      // Of all four linears; Qwen2 has those of q, k and v without saying so.
      {"attention_bias", model.architecture() != "qwen2" && has_tensor(model, "q_proj.bias")},
      {"mlp_bias", has_tensor(model, "up_proj.bias")},
      {"tie_word_embeddings", !model.tensors().contains("lm_head.weight")},
      {"bos_token_id", token_id(model, "bos")},
      {"eos_token_id", token_id(model, "eos")},
      {"pad_token_id", token_id(model, "padding")},
      {"torch_dtype", "float16"}};
  if (model.any_codes()) config["quantization_config"] = {{"quant_method", "gguf"}};
  if (sliding_window > 0) config["sliding_window"] = sliding_window;
  if (model.architecture() != "llama") {
    config["use_sliding_window"] = sliding_window > 0;
    config["max_window_layers"] = 0;  // no layer without the window
  }
  return config;
}

ordered_json gguf_generation_config(const GgufModel& model) {
  ordered_json ends = ordered_json::array();
  for (const char* name : {"eos", "eot", "eom"}) {
    const ordered_json id = token_id(model, name);
    if (!id.is_null() && std::ranges::find(ends, id) == ends.end()) ends.push_back(id);
  }
  ordered_json config = {{"bos_token_id", token_id(model, "bos")},
                         {"pad_token_id", token_id(model, "padding")}};
  config["eos_token_id"] = ends.empty() ? ordered_json() : ends;
  return config;
}

}  // namespace tessera
