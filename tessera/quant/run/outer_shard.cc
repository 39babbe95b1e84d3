// The parameters outside the blocks.
#include "tessera/quant/run/outer_shard.h"

#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/run/lm_head.h"

namespace tessera {

Shard make_outer_shard(const RunPlan& plan, const Recipe& recipe, const at::Device& device) {
  Shard shard;
  ModelSpec spec = plan.spec;
  if (plan.unties_embedding()) {
    OuterWeights outer = load_outer(plan.checkpoint, plan.spec, device);
    for (const auto& pass : plan.passes) pass->run_on_outer(plan.spec, outer);
    nlohmann::json untied = plan.config.values();
    untied["tie_word_embeddings"] = false;
    spec = make_model_spec({untied, plan.config.file()}, plan.checkpoint);
    shard = outer_shard(spec, outer, plan.checkpoint.info(plan.spec.embedding).dtype);
  } else {
    shard = outer_shard(plan.checkpoint, plan.spec);
  }
  if (recipe.lm_head_w8a8) round_lm_head(spec, shard);
  if (plan.changes_final_norm()) {
    shard.remove(spec.final_norm + ".weight");
    shard.remove(spec.final_norm + ".bias");
  }
  return shard;
}

void add_final_norm(const RunPlan& plan, const Streams& streams, BlockContext& last, Shard& shard) {
  if (!plan.changes_final_norm()) return;
  const std::string gain = plan.spec.final_norm + ".weight", bias = plan.spec.final_norm + ".bias";
  const auto load = [&](const std::string& name) {
    return plan.checkpoint.contains(name)
               ? to_float_tensor(plan.checkpoint.at(name), streams.x_quant.device())
               : at::Tensor();
  };
  FinalNormContext norm{last, streams.x_float, streams.x_quant, load(gain), load(bias)};
  for (const auto& pass : plan.passes) pass->run_on_final_norm(norm);
  add_unless_changed(shard, gain, plan.checkpoint.at(gain), norm.gain);
  if (norm.bias.defined()) add_unless_changed(shard, bias, plan.checkpoint.at(bias), norm.bias);
}

}  // namespace tessera
