// BLOOM: ALiBi, fused q, k and v, LayerNorm also behind the embedding, biases everywhere, a plain GELU MLP.
#include <bit>
#include <cmath>

#include "tessera/arch/families.h"
#include "tessera/arch/linear_tensors.h"

namespace tessera {
namespace {

/// Slopes of "Train Short, Test Long" (Press et al. 2022): 2^(-8 i / n) for a power of two n; other numbers
/// of heads take every second slope of the next power of two on top.
std::vector<float> alibi_slopes(int64_t n_heads) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n_heads)));
  std::vector<float> slopes;
  const auto add = [&](int64_t step, int64_t of) {
    slopes.push_back(
        static_cast<float>(std::exp2(-8.0 * static_cast<double>(step) / static_cast<double>(of))));
  };
  for (int64_t i = 1; i <= power; ++i) add(i, power);
  for (int64_t i = 1; std::ssize(slopes) < n_heads; i += 2) add(i, 2 * power);
  return slopes;
}

}  // namespace

ModelSpec bloom_spec(const ModelConfig& config) {
  if (config.get<bool>("apply_residual_connection_post_layernorm", false)) {
    throw Error("{}: BLOOM with apply_residual_connection_post_layernorm is not supported", config.file());
  }
  ModelSpec s;
  s.family = "bloom";
  s.vocab_size = config.extent("vocab_size");
  s.hidden_size = config.extent(config.present({"hidden_size", "n_embed"}));
  s.intermediate_size = 4 * s.hidden_size;
  s.n_layers = config.extent(config.present({"n_layer", "num_hidden_layers"}));
  s.n_heads = s.n_kv_heads = config.extent(config.present({"n_head", "num_attention_heads"}));
  constexpr int64_t kMostHeads = 1 << 16;  // a slope for each is computed before any tensor is seen
  if (s.n_heads > kMostHeads) throw Error("{}: {} heads; at most {}", config.file(), s.n_heads, kMostHeads);
  s.head_dim = s.hidden_size / s.n_heads;
  s.max_positions = extent_or(config, "seq_length", 2048);
  s.norm = NormKind::kLayer;
  s.norm_eps = config.get<float>("layer_norm_epsilon", 1e-5f);
  s.activation = Activation::kGeluTanh;
  s.positions = Positions::kAlibi;
  s.alibi_slopes = alibi_slopes(s.n_heads);

  s.base_prefix = "transformer.";
  s.embedding = "transformer.word_embeddings.weight";
  s.embedding_norm = "transformer.word_embeddings_layernorm";
  s.final_norm = "transformer.ln_f";
  s.tied_embeddings = config.get<bool>("tie_word_embeddings", true);
  s.lm_head = s.tied_embeddings ? s.embedding : "lm_head.weight";
  s.block_prefix = "transformer.h.";
  s.norms = {"input_layernorm", "post_attention_layernorm"};

  const int64_t h = s.hidden_size, i = s.intermediate_size;
  s.linears = {{kQ, "self_attention.q_proj", h, h, true}, {kK, "self_attention.k_proj", h, h, true},
               {kV, "self_attention.v_proj", h, h, true}, {kO, "self_attention.dense", h, h, true},
               {kUp, "mlp.dense_h_to_4h", i, h, true},    {kDown, "mlp.dense_4h_to_h", h, i, true}};
  fuse_query_key_value(s, "self_attention.query_key_value");
  s.sites = sites_of(s);
  return s;
}

}  // namespace tessera
