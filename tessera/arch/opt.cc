// OPT: LayerNorm before each half of a block, biases, learned positions, a plain MLP.
#include "tessera/arch/families.h"

namespace tessera {
namespace {

constexpr int64_t kHiddenSize = 768;  ///< where config.json names none

void refuse_variants(const ModelConfig& config) {
  if (!config.get<bool>("do_layer_norm_before", true)) {
    throw Error(
        "{}: do_layer_norm_before is false: OPT with norms behind the sums (opt-350m) is not supported",
        config.file());
  }
  const auto hidden = extent_or(config, "hidden_size", kHiddenSize),
             projected = config.get<int64_t>("word_embed_proj_dim", hidden);
  if (projected != hidden) {
    throw Error(
        "{}: word_embed_proj_dim {} differs from hidden_size {}: OPT with projected embeddings (opt-350m) is "
        "not supported",
        config.file(), projected, hidden);
  }
  if (!config.get<bool>("layer_norm_elementwise_affine", true) ||
      config.get<bool>("_remove_final_layer_norm", false)) {
    throw Error("{}: OPT without gains in its norms or without a final norm is not supported", config.file());
  }
}

Activation activation_of(const ModelConfig& config) {
  const auto name = config.get<std::string>("activation_function", "relu");
  if (name == "relu") return Activation::kRelu;
  if (name == "gelu") return Activation::kGelu;
  throw Error("{}: activation_function '{}' is not supported for opt (relu and gelu are)", config.file(),
              name);
}

}  // namespace

ModelSpec opt_spec(const ModelConfig& config) {
  refuse_variants(config);
  ModelSpec s;
  s.family = "opt";
  // The defaults are those of Transformers.
  s.vocab_size = extent_or(config, "vocab_size", 50272);
  s.hidden_size = extent_or(config, "hidden_size", kHiddenSize);
  s.intermediate_size = extent_or(config, "ffn_dim", 3072);
  s.n_layers = extent_or(config, "num_hidden_layers", 12);
  s.n_heads = s.n_kv_heads = extent_or(config, "num_attention_heads", 12);
  s.head_dim = s.hidden_size / s.n_heads;
  s.max_positions = extent_or(config, "max_position_embeddings", 2048);
  s.norm = NormKind::kLayer;
  s.activation = activation_of(config);
  s.positions = Positions::kLearned;
  s.position_offset = 2;

  s.base_prefix = "model.";
  s.embedding = "model.decoder.embed_tokens.weight";
  s.position_embedding = "model.decoder.embed_positions.weight";
  s.final_norm = "model.decoder.final_layer_norm";
  s.tied_embeddings = config.get<bool>("tie_word_embeddings", true);
  s.lm_head = s.tied_embeddings ? s.embedding : "lm_head.weight";
  s.block_prefix = "model.decoder.layers.";
  s.norms = {"self_attn_layer_norm", "final_layer_norm"};

  const bool bias = config.get<bool>("enable_bias", true);
  const int64_t h = s.hidden_size, i = s.intermediate_size;
  s.linears = {{kQ, "self_attn.q_proj", h, h, bias},
               {kK, "self_attn.k_proj", h, h, bias},
               {kV, "self_attn.v_proj", h, h, bias},
               {kO, "self_attn.out_proj", h, h, bias},
               {kUp, "fc1", i, h, bias},
               {kDown, "fc2", h, i, bias}};
  s.sites = sites_of(s);
  return s;
}

}  // namespace tessera
