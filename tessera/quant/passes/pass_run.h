// Passes on a block of a random model, for their tests. Test code only.
#pragma once

#include <optional>

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/test_models.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {

/// Runs passes over the first block of a random model whose inputs have a few loud channels.
struct PassRun {
  explicit PassRun(const TestModelOptions& options, WeightScheme weight = {4, 32})
      : model(make_test_model(options)) {
    at::manual_seed(3);
    x = at::randn({12, 32, model.spec.hidden_size});
    model.blocks[0].gain[kAttentionNorm][5] = 60;
    if (model.spec.has(kMlpNorm)) model.blocks[0].gain[kMlpNorm][9] = 90;
    for (const Site& site : model.spec.sites) {
      if (site.producer != Site::Producer::kNorm) continue;
      const bool first = site.norm == kAttentionNorm;
      for (LinearId id : site.readers) {
        model.blocks[0].weight[id].select(1, first ? 5 : 9).mul_(first ? 1.0 / 60 : 1.0 / 90);
      }
    }
    context.emplace(model.spec, 0, PerLinear<LinearScheme>(model.spec.linears.size(), {weight, {}}),
                    model.blocks[0], reporter);
    context->x_float = context->x_quant = x;
  }

  PassRun& run(const std::vector<nlohmann::json>& steps) {
    std::vector<std::unique_ptr<Pass>> passes;
    for (const nlohmann::json& step : steps) {
      std::unique_ptr<Pass> pass = make_pass(step);
      pass->check({model.spec, context->schemes, passes});
      pass->run_on_block(*context);
      passes.push_back(std::move(pass));
    }
    return *this;
  }

  /// ||quantized(x) - float(x)|| / ||float(x)|| of the whole block.
  double block_error() const {
    const Block& original = model.blocks[0];
    const at::Tensor exact = block_forward(model.spec, original, float_linears(original), x);
    const at::Tensor quantized =
        block_forward(model.spec, context->block, fake_quant_linears(context->quantized, at::kCPU), x);
    return ((quantized - exact).norm() / exact.norm()).item<double>();
  }

  /// The same for the block's float parameters after the passes: they must not change the function.
  double drift() const {
    const Block& original = model.blocks[0];
    return relative_error(block_forward(model.spec, context->block, float_linears(context->block), x),
                          block_forward(model.spec, original, float_linears(original), x));
  }

  TestModel model;
  at::Tensor x;
  Reporter reporter;
  std::optional<BlockContext> context;
};

inline const std::vector<TestModelOptions> kTestFamilies = {
    {},
    {.kv_heads = 2, .biases = true},
    {.biases = true, .layer_norm = true},
    {.kv_heads = 1, .head_norms = true, .parallel = true}};

}  // namespace tessera
