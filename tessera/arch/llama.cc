// LLaMA and Mistral: RMSNorm, rotary positions, grouped-query attention, gated SiLU MLP.
#include "tessera/arch/families.h"

namespace tessera {

ModelSpec llama_spec(const ModelConfig& config) {
  ModelSpec s;
  s.family = config.get<std::string>("model_type", "llama");
  s.vocab_size = config.extent("vocab_size");
  s.hidden_size = config.extent("hidden_size");
  s.intermediate_size = config.extent("intermediate_size");
  s.n_layers = config.extent("num_hidden_layers");
  s.n_heads = config.extent("num_attention_heads");
  s.n_kv_heads = extent_or(config, "num_key_value_heads", s.n_heads);
  s.head_dim = extent_or(config, "head_dim", s.hidden_size / s.n_heads);
  s.max_positions = config.extent("max_position_embeddings");
  s.sliding_window = s.family == "mistral" ? config.get<int64_t>("sliding_window", 0) : 0;
  s.norm_eps = config.get<float>("rms_norm_eps", 1e-6f);
  s.rope = config.rope();
  if (const auto act = config.get<std::string>("hidden_act", "silu"); act != "silu") {
    throw Error("{}: hidden_act '{}' is not supported for {} (silu is)", config.file(), act, s.family);
  }

  s.base_prefix = "model.";
  s.embedding = "model.embed_tokens.weight";
  s.final_norm = "model.norm";
  s.tied_embeddings = config.get<bool>("tie_word_embeddings", false);
  s.lm_head = s.tied_embeddings ? s.embedding : "lm_head.weight";
  s.block_prefix = "model.layers.";
  s.norms = {"input_layernorm", "post_attention_layernorm"};

  const bool attention_bias = config.get<bool>("attention_bias", false),
             mlp_bias = config.get<bool>("mlp_bias", false);
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
