// Passes and formats of a run.
#include "tessera/quant/run/plan.h"

#include <algorithm>

#include "tessera/quant/run/lm_head.h"
#include "tessera/quant/run/run_checks.h"

namespace tessera {
namespace {

std::vector<std::unique_ptr<Pass>> make_passes(const Recipe& recipe) {
  std::vector<std::unique_ptr<Pass>> passes;
  for (const nlohmann::json& step : recipe.passes) passes.push_back(make_pass(step));
  return passes;
}

}  // namespace

RunPlan::RunPlan(const std::filesystem::path& model_dir, const Recipe& recipe)
    : config(ModelConfig::load(model_dir)),
      checkpoint(model_dir),
      spec(make_model_spec(config, checkpoint)),
      schemes(recipe.schemes(spec)),
      passes(make_passes(recipe)) {
  check_source_model(config, spec, checkpoint);
  check_passes(recipe.name, spec, schemes, passes);
}

bool RunPlan::needs_calibration() const {
  for (size_t i = 0; i < passes.size(); ++i) {
    if (passes[i]->needs_calibration({spec, schemes, std::span(passes).first(i)})) return true;
  }
  return false;
}

QuantizationConfig RunPlan::quantization_config(const Recipe& recipe) const {
  QuantizationConfig result{
      .activation = recipe.scheme.activation, .kv_format = recipe.kv_format, .recipe = recipe.to_json()};
  for (LinearId id : spec.linear_ids()) {
    const ActivationFormat& activation = schemes[id].activation;
    if (activation != result.activation) result.overrides[last_component(spec.linears[id].name)] = activation;
  }
  if (recipe.lm_head_w8a8 && result.activation != kLmHeadScheme.activation)
    result.overrides[kLmHead] = kLmHeadScheme.activation;
  return result;
}

bool RunPlan::unties_embedding() const {
  return std::ranges::any_of(passes, [](const auto& pass) { return pass->unties_embedding(); });
}

bool RunPlan::changes_final_norm() const {
  return std::ranges::any_of(passes, [](const auto& pass) { return pass->changes_final_norm(); });
}

bool RunPlan::trains_model() const {
  return std::ranges::any_of(passes, [](const auto& pass) { return pass->trains_model(); });
}

bool RunPlan::stores_head(const Recipe& recipe) const {
  return !spec.tied_embeddings || unties_embedding() || recipe.lm_head_w8a8;
}

size_t RunPlan::group_pass() const {
  const auto on_groups = [](const auto& pass) { return pass->group_blocks() > 0; };
  return static_cast<size_t>(std::ranges::find_if(passes, on_groups) - passes.begin());
}

int64_t RunPlan::group_blocks() const {
  return group_pass() < passes.size() ? passes[group_pass()]->group_blocks() : 1;
}

}  // namespace tessera
