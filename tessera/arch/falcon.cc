// Falcon: attention and MLP in parallel, behind one norm or one each, fused q, k and v, rotary positions.
#include "tessera/arch/families.h"
#include "tessera/arch/linear_tensors.h"

namespace tessera {
namespace {

void refuse_variants(const ModelConfig& config) {
  if (config.get<bool>("alibi", false)) {
    throw Error("{}: Falcon with ALiBi (falcon-rw) is not supported", config.file());
  }
  if (const auto act = config.get<std::string>("activation", "gelu"); act != "gelu") {
    throw Error("{}: activation '{}' is not supported for falcon (gelu is)", config.file(), act);
  }
}

}  // namespace

ModelSpec falcon_spec(const ModelConfig& config) {
  refuse_variants(config);
  const bool grouped = config.get<bool>("new_decoder_architecture", false);  // falcon-40b and later
  const bool multi_query = config.get<bool>("multi_query", true);
  ModelSpec s;
  s.family = "falcon";
  s.vocab_size = config.extent("vocab_size");
  s.hidden_size = config.extent("hidden_size");
  s.intermediate_size = extent_or(config, "ffn_hidden_size", 4 * s.hidden_size);
  s.n_layers = config.extent(config.present({"num_hidden_layers", "n_layer"}));
  s.n_heads = config.extent(config.present({"num_attention_heads", "n_head"}));
  s.n_kv_heads = s.n_heads;
  if (grouped) {
    s.n_kv_heads = extent_or(config, config.present({"num_kv_heads", "n_head_kv"}), s.n_heads);
  } else if (multi_query) {
    s.n_kv_heads = 1;
  }
  s.head_dim = s.hidden_size / s.n_heads;
  s.max_positions = extent_or(config, "max_position_embeddings", 2048);
  s.norm = NormKind::kLayer;
  s.norm_eps = config.get<float>("layer_norm_epsilon", 1e-5f);
  s.activation = Activation::kGelu;
  s.rope = config.rope();
  s.parallel = grouped || config.get<bool>("parallel_attn", true);

  s.base_prefix = "transformer.";
  s.embedding = "transformer.word_embeddings.weight";
  s.final_norm = "transformer.ln_f";
  s.tied_embeddings = config.get<bool>("tie_word_embeddings", true);
  s.lm_head = s.tied_embeddings ? s.embedding : "lm_head.weight";
  s.block_prefix = "transformer.h.";
  if (grouped && config.get<int64_t>("num_ln_in_parallel_attn", 2) == 2) {
    s.norms = {"ln_attn", "ln_mlp"};
  } else {
    s.norms = {"input_layernorm", s.parallel ? "" : "post_attention_layernorm"};
  }

  const bool bias = config.get<bool>("bias", false);
  const int64_t q = s.q_size(), kv = s.kv_size(), h = s.hidden_size, i = s.intermediate_size;
  s.linears = {{kQ, "self_attention.q_proj", q, h, bias},  {kK, "self_attention.k_proj", kv, h, bias},
               {kV, "self_attention.v_proj", kv, h, bias}, {kO, "self_attention.dense", h, q, bias},
               {kUp, "mlp.dense_h_to_4h", i, h, bias},     {kDown, "mlp.dense_4h_to_h", h, i, bias}};
  fuse_query_key_value(s, "self_attention.query_key_value");
  s.sites = sites_of(s);
  return s;
}

}  // namespace tessera
