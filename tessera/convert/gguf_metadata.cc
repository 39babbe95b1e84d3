// Sizes, norms and rotation under the names of llama.cpp.
#include "tessera/convert/gguf_metadata.h"

#include "tessera/base/error.h"

namespace tessera {

using nlohmann::ordered_json;

std::string gguf_architecture(const SourceModel& model) {
  const std::string& family = model.spec().family;
  const std::string where = model.config().file();
  if (family != "llama" && family != "mistral" && family != "qwen2" && family != "qwen3")
    throw Error("{}: GGUF files are written for llama, mistral, qwen2 and qwen3, not for {}", where, family);
  if (model.spec().activation != Activation::kSilu)
    throw Error("{}: llama.cpp computes {} with silu, the model with another function", where, family);
  if (model.spec().sliding_window > 0)
    throw Error("{}: llama.cpp does not limit attention to a window in models of {}", where, family);
  return family == "mistral" ? "llama" : family;
}

ordered_json gguf_parameters(const SourceModel& model, const std::string& name) {
  const ModelSpec& spec = model.spec();
  const std::string architecture = gguf_architecture(model);
  ordered_json keys = {
      {"general.architecture", architecture}, {"general.name", name}, {"general.quantization_version", 2u}};
  const auto set = [&](const char* key, ordered_json value) {
    keys[architecture + "." + key] = std::move(value);
  };
  const auto extent = [](int64_t value) { return static_cast<uint32_t>(value); };
  set("context_length", extent(spec.max_positions));
  set("embedding_length", extent(spec.hidden_size));
  set("block_count", extent(spec.n_layers));
  set("feed_forward_length", extent(spec.intermediate_size));
  set("attention.head_count", extent(spec.n_heads));
  set("attention.head_count_kv", extent(spec.n_kv_heads));
  set("attention.key_length", extent(spec.head_dim));
  set("attention.value_length", extent(spec.head_dim));
  set("attention.layer_norm_rms_epsilon", spec.norm_eps);
  set("rope.dimension_count", extent(spec.head_dim));
  set("rope.freq_base", static_cast<float>(spec.rope.theta));
  set("vocab_size", extent(spec.vocab_size));
  if (spec.rope.type == RopeConfig::Type::kLinear) {
    set("rope.scaling.type", "linear");
    set("rope.scaling.factor", static_cast<float>(spec.rope.factor));
  }
  if (spec.rope.type == RopeConfig::Type::kLlama3)
    set("rope.scaling.original_context_length", extent(static_cast<int64_t>(spec.rope.original_context)));
  return keys;
}

}  // namespace tessera
