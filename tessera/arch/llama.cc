// LLaMA and Mistral: RMSNorm, rotary positions, grouped-query attention, gated SiLU MLP.
#include "tessera/arch/families.h"

namespace tessera {
namespace {

/// What Transformers takes where config.json says nothing.
struct Defaults {
  int64_t vocab_size = 32000, hidden_size = 4096, intermediate_size = 11008, n_layers = 32, n_heads = 32;
  int64_t n_kv_heads = 0;  ///< 0: as many as heads
  int64_t head_dim = 0;    ///< 0: hidden_size / n_heads
  int64_t max_positions = 2048, sliding_window = 0;
};

Defaults defaults_of(const std::string& model_type) {
  if (model_type == "llama") return {};
  if (model_type == "mistral") {
    return {.intermediate_size = 14336, .n_kv_heads = 8, .max_positions = 131072, .sliding_window = 4096};
  }
  return {.vocab_size = 151936,
          .intermediate_size = 22016,
          .n_kv_heads = 32,
          .head_dim = model_type == "qwen3" ? 128 : 0,
          .max_positions = 32768};
}

}  // namespace

ModelSpec llama_spec(const ModelConfig& config) {
  ModelSpec s;
  s.family = config.get<std::string>("model_type");
  const Defaults defaults = defaults_of(s.family);
  s.vocab_size = extent_or(config, "vocab_size", defaults.vocab_size);
  s.hidden_size = extent_or(config, "hidden_size", defaults.hidden_size);
  s.intermediate_size = extent_or(config, "intermediate_size", defaults.intermediate_size);
  s.n_layers = extent_or(config, "num_hidden_layers", defaults.n_layers);
  s.n_heads = extent_or(config, "num_attention_heads", defaults.n_heads);
  const bool states_kv_heads = config.states("num_key_value_heads") || defaults.n_kv_heads == 0;
  s.n_kv_heads = extent_or(config, "num_key_value_heads", states_kv_heads ? s.n_heads : defaults.n_kv_heads);
  s.head_dim =
      extent_or(config, "head_dim", defaults.head_dim > 0 ? defaults.head_dim : s.hidden_size / s.n_heads);
  s.max_positions = extent_or(config, "max_position_embeddings", defaults.max_positions);
  if (s.family == "mistral") {
    s.sliding_window =
        config.states("sliding_window") ? config.get<int64_t>("sliding_window", 0) : defaults.sliding_window;
  }
  s.norm_eps = config.get<float>("rms_norm_eps", 1e-6f);
  s.rope = config.rope();
  if (const auto act = config.get<std::string>("hidden_act", "silu"); act != "silu" && act != "swish") {
    throw Error("{}: hidden_act '{}' is not supported for {} (silu is)", config.file(), act, s.family);
  }

  s.base_prefix = "model.";
  s.embedding = "model.embed_tokens.weight";
  s.final_norm = "model.norm";
  s.tied_embeddings = config.get<bool>("tie_word_embeddings", false);
  s.lm_head = s.tied_embeddings ? s.embedding : "lm_head.weight";
  s.block_prefix = "model.layers.";
  s.norms = {"input_layernorm", "post_attention_layernorm"};

  // Keys of LLaMA and, the first, of Qwen3; Transformers heeds them in no other family.
  const bool attention_bias =
                 (s.family == "llama" || s.family == "qwen3") && config.get<bool>("attention_bias", false),
             mlp_bias = s.family == "llama" && config.get<bool>("mlp_bias", false);
  const int64_t q = s.q_size(), kv = s.kv_size(), h = s.hidden_size, i = s.intermediate_size;
  s.linears = {
      {kQ, "self_attn.q_proj", q, h, attention_bias},  {kK, "self_attn.k_proj", kv, h, attention_bias},
      {kV, "self_attn.v_proj", kv, h, attention_bias}, {kO, "self_attn.o_proj", h, q, attention_bias},
      {kGate, "mlp.gate_proj", i, h, mlp_bias},        {kUp, "mlp.up_proj", i, h, mlp_bias},
      {kDown, "mlp.down_proj", h, i, mlp_bias}};
  s.sites = sites_of(s);
  return s;
}

}  // namespace tessera
