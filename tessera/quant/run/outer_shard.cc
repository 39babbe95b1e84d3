// The parameters outside the blocks.
#include "tessera/quant/run/outer_shard.h"

#include <algorithm>

#include "tessera/quant/block/block.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/run/lm_head.h"

namespace tessera {
namespace {

/// All of them, and the names that they have in the result.
struct Outer {
  ModelSpec spec;
  Shard shard;
};

Outer changed_outer(const RunPlan& plan, const at::Device& device) {
  if (!plan.unties_embedding()) return {plan.spec, outer_shard(plan.checkpoint, plan.spec)};
  OuterWeights outer = load_outer(plan.checkpoint, plan.spec, device);
  for (const auto& pass : plan.passes) pass->run_on_outer(plan.spec, outer);
  nlohmann::json untied = plan.config.values();
  untied["tie_word_embeddings"] = false;
  ModelSpec spec = make_model_spec({untied, plan.config.file()}, plan.checkpoint);
  Shard shard = outer_shard(spec, outer, plan.checkpoint.info(plan.spec.embedding).dtype);
  return {std::move(spec), std::move(shard)};
}

/// What the final norm gives, [tokens, hidden], of some tokens of the last block's outputs x.
at::Tensor head_inputs(const FinalNormContext& norm) {
  constexpr int64_t kTokens = 2048;
  const at::Tensor x = norm.x_quant.reshape({-1, norm.x_quant.size(2)});
  const int64_t step = (x.size(0) + kTokens - 1) / kTokens;
  return normalize(norm.last.spec, x.slice(0, 0, x.size(0), step), norm.gain, norm.bias);
}

}  // namespace

Shard make_outer_shard(const RunPlan& plan, const Recipe& recipe, const at::Device& device) {
  Outer outer = changed_outer(plan, device);
  if (plan.changes_final_norm() || recipe.lm_head_w8a8) {
    outer.shard.remove(outer.spec.final_norm + ".weight");
    outer.shard.remove(outer.spec.final_norm + ".bias");
  }
  if (recipe.lm_head_w8a8) {
    outer.shard.remove(outer.spec.lm_head_bias());
    if (!outer.spec.tied_embeddings) outer.shard.remove(outer.spec.lm_head);
  }
  return std::move(outer.shard);
}

void add_head(const RunPlan& plan, const Recipe& recipe, const Streams& streams, BlockContext& last,
              const at::Device& device, Shard& shard) {
  if (!plan.changes_final_norm() && !recipe.lm_head_w8a8) return;
  const auto [spec, outer] = changed_outer(plan, device);
  const auto load = [&, &from = outer](const std::string& name, const at::Device& to) {
    return from.contains(name) ? to_float_tensor(from.at(name), to) : at::Tensor();
  };
  const std::string gain = spec.final_norm + ".weight", bias = spec.final_norm + ".bias";
  FinalNormContext norm{last, streams.x_float, streams.x_quant, load(gain, device), load(bias, device)};
  for (const auto& pass : plan.passes) pass->run_on_final_norm(norm);
  if (recipe.lm_head_w8a8) {
    const TensorView& weight = outer.at(spec.lm_head);
    at::Tensor scales = at::ones({spec.hidden_size});
    // A pass that fits the norm is compared with the source's, whose head this has to be.
    if (norm.x_quant.defined() && !plan.changes_final_norm())
      scales = balance_lm_head(weight, head_inputs(norm), last.report[kLmHead]);
    shard.add(round_lm_head(weight, load(spec.lm_head_bias(), at::kCPU), scales), kLmHead);
    norm.gain = norm.gain / scales.to(device);
    if (norm.bias.defined()) norm.bias = norm.bias / scales.to(device);
  }
  add_unless_changed(shard, gain, plan.checkpoint.at(gain), norm.gain);
  if (norm.bias.defined()) add_unless_changed(shard, bias, plan.checkpoint.at(bias), norm.bias);
}

}  // namespace tessera
