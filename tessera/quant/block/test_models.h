// Small random models for the tests of transforms and passes. Test code only.
#pragma once

#include "tessera/arch/families.h"
#include "tessera/quant/block/block.h"
#include "tessera/quant/block/outer_weights.h"

namespace tessera {

/// A family with the named differences; sizes are small and all different where they may be.
struct TestModel {
  ModelSpec spec;
  OuterWeights outer;
  std::vector<Block> blocks;
};

struct TestModelOptions {
  int64_t kv_heads = 4;  ///< of 4 query heads
  bool biases = false;
  bool layer_norm = false;  ///< LayerNorm with bias, no gate, ReLU, learned positions: OPT
  bool head_norms = false;  ///< of q and k: Qwen3
  bool parallel = false;    ///< attention and MLP side by side, behind one norm: Falcon
  int64_t layers = 2;
};

inline ModelSpec test_spec(const TestModelOptions& options) {
  ModelSpec s;
  s.family = "test";
  s.vocab_size = 50;
  s.hidden_size = 64;
  s.intermediate_size = 96;
  s.n_layers = options.layers;
  s.n_heads = 4;
  s.n_kv_heads = options.kv_heads;
  s.head_dim = 16;
  s.max_positions = 64;
  s.norms = {"attention_norm", "mlp_norm"};
  const int64_t h = s.hidden_size, i = s.intermediate_size;
  const auto add = [&](LinearRole role, const char* name, int64_t n, int64_t k) {
    s.linears.push_back({role, name, n, k, options.biases});
  };
  add(kQ, "q_proj", s.q_size(), h);
  add(kK, "k_proj", s.kv_size(), h);
  add(kV, "v_proj", s.kv_size(), h);
  add(kO, "o_proj", h, s.q_size());
  if (!options.layer_norm) add(kGate, "gate_proj", i, h);
  add(kUp, "up_proj", i, h);
  add(kDown, "down_proj", h, i);
  if (options.head_norms) s.norms = {"attention_norm", "mlp_norm", "q_norm", "k_norm"};
  if (options.layer_norm) {
    s.norm = NormKind::kLayer;
    s.activation = Activation::kRelu;
    s.positions = Positions::kLearned;
  }
  if (options.parallel) {
    s.parallel = true;
    s.norms = {"attention_norm"};
  }
  s.sites = sites_of(s);
  return s;
}

inline TestModel make_test_model(const TestModelOptions& options) {
  at::manual_seed(99);
  TestModel model{test_spec(options), {}, {}};
  const ModelSpec& s = model.spec;
  for (int64_t layer = 0; layer < s.n_layers; ++layer) {
    Block block(s);
    for (LinearId id : s.linear_ids()) {
      block.weight[id] = at::randn({s.linears[id].n, s.linears[id].k}) * 0.15;
      if (s.linears[id].bias) block.bias[id] = at::randn({s.linears[id].n}) * 0.1;
    }
    for (NormId id : s.existing_norms()) {
      block.gain[id] = at::rand({s.norm_width(id)}) + 0.5;
      if (s.norm == NormKind::kLayer) block.norm_bias[id] = at::randn({s.norm_width(id)}) * 0.1;
    }
    model.blocks.push_back(block);
  }
  model.outer.embedding = at::randn({s.vocab_size, s.hidden_size});
  model.outer.final_gain = at::rand({s.hidden_size}) + 0.5;
  model.outer.lm_head = at::randn({s.vocab_size, s.hidden_size});
  if (s.norm == NormKind::kLayer) model.outer.final_bias = at::randn({s.hidden_size}) * 0.1;
  if (s.positions == Positions::kLearned) {
    model.outer.position_embedding = at::randn({s.max_positions, s.hidden_size});
  }
  return model;
}

/// Logits [B, T, vocab] for token ids [B, T].
inline at::Tensor test_logits(const TestModel& model, const at::Tensor& ids) {
  const OuterWeights& outer = model.outer;
  at::Tensor x = at::embedding(outer.embedding, ids);
  if (outer.position_embedding.defined()) x = x + outer.position_embedding.narrow(0, 0, ids.size(1));
  for (const Block& block : model.blocks) x = block_forward(model.spec, block, float_linears(block), x);
  x = at::matmul(normalize(model.spec, x, outer.final_gain, outer.final_bias), outer.lm_head.t());
  return outer.lm_head_bias.defined() ? x + outer.lm_head_bias : x;
}

inline at::Tensor test_ids(int64_t batch, int64_t tokens, const ModelSpec& spec) {
  at::manual_seed(5);
  return at::randint(spec.vocab_size, {batch, tokens}, at::kLong);
}

inline double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual - expected).abs().max() / expected.abs().max()).item<double>();
}

}  // namespace tessera
