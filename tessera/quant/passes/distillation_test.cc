// Distillation: what it starts from, what it may change, and when it leaves a model alone.
#include "tessera/quant/passes/distillation.h"

#include <gtest/gtest.h>

#include "tessera/base/test_error.h"
#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/grid/weight_grid.h"
#include "tessera/quant/passes/pass_run.h"

namespace tessera {
namespace {

const nlohmann::json kRtn{{"pass", "rtn"}};
const LinearScheme kPerOutput{{4, 0}, {}}, kZeroPoints{{4, 32, false}, {}},
    kStatic{{4, 32, false}, {8, true, false}}, kFourBits{{4, 0, false}, {4, false, true}},
    kWeightsOnly{{4, 32, false}, {16, true, true}};
const DistillationOptions kShort{.steps = 40, .learning_rate = 0.004};

/// A random model, rounded to nearest in every block.
struct ModelRun {
  explicit ModelRun(const LinearScheme& scheme, const TestModelOptions& family = {}, int64_t windows = 32)
      : model(make_test_model(family)),
        context{.spec = model.spec,
                .embedded = at::embedding(model.outer.embedding, test_ids(windows, 24, model.spec)),
                .target = {},
                .float_gain = model.outer.final_gain,
                .float_bias = model.outer.final_bias,
                .lm_head = model.outer.lm_head * 0.1,
                .lm_head_bias = {},
                .reporter = reporter,
                .blocks = {},
                .gain = model.outer.final_gain,
                .bias = model.outer.final_bias} {
    at::Tensor x = context.embedded.clone();
    for (int64_t layer = 0; layer < model.spec.n_layers; ++layer) {
      const Block& block = model.blocks[static_cast<size_t>(layer)];
      BlockContext one(model.spec, layer, PerLinear<LinearScheme>(model.spec.linears.size(), scheme), block,
                       reporter);
      one.x_float = one.x_quant = x;
      make_pass(kRtn)->run_on_block(one);
      Block norms = block;
      norms.weight.assign(model.spec.linears.size(), {});
      context.blocks.push_back({norms, std::move(one.quantized)});
      propagate(block, float_linears(block), x);
    }
    context.target = x;
  }

  void propagate(const Block& block, const LinearFn& linear, at::Tensor& x) const {
    x = block_forward(model.spec, block, linear, x);
  }

  /// Mean divergence on every eighth window, by the integer simulation.
  double divergence() const {
    at::Tensor x = context.embedded;
    for (const FinishedBlock& block : context.blocks)
      x = block_forward(model.spec, block.norms, fake_quant_linears(block.linears, at::kCPU), x);
    const auto logs = [&](const at::Tensor& hidden, const at::Tensor& gain, const at::Tensor& bias) {
      const at::Tensor part = hidden.slice(0, 7, {}, 8);
      return at::log_softmax(at::matmul(normalize(model.spec, part, gain, bias), context.lm_head.t()), -1);
    };
    const at::Tensor wanted = logs(context.target, context.float_gain, context.float_bias),
                     given = logs(x, context.gain, context.bias);
    return (wanted.exp() * (wanted - given)).sum(-1).mean().item<double>();
  }

  std::vector<std::vector<float>> scales() const {
    std::vector<std::vector<float>> result;
    for (const FinishedBlock& block : context.blocks) {
      for (const auto& linear : block.linears) result.push_back(to_floats(linear->scale.view()));
    }
    return result;
  }

  std::vector<at::Tensor> codes() const {
    std::vector<at::Tensor> result;
    for (const FinishedBlock& block : context.blocks) {
      for (const auto& linear : block.linears) {
        const Tensor& q = linear->qweight;
        result.push_back(
            at::from_blob(const_cast<std::byte*>(q.data()), {static_cast<int64_t>(q.bytes())}, at::kByte)
                .clone());
      }
    }
    return result;
  }

  TestModel model;
  Reporter reporter;
  ModelContext context;
};

TEST(Distillation, JudgesTheIntegerModelAndImprovesIt) {
  std::vector<std::pair<LinearScheme, TestModelOptions>> cases;
  for (const TestModelOptions& family : kTestFamilies) cases.emplace_back(kZeroPoints, family);
  for (const LinearScheme& scheme : {kPerOutput, kStatic, kFourBits, kWeightsOnly})
    cases.emplace_back(scheme, TestModelOptions{.kv_heads = 2, .biases = true});
  for (const auto& [scheme, family] : cases) {
    ModelRun run(scheme, family);
    const double before = run.divergence();
    const auto codes = run.codes();
    const DistillationResult result = distill(run.context, kShort);
    // Sums in another order let codes of activations flip.
    EXPECT_NEAR(result.divergence_before, before, 1e-2 * before) << to_string(scheme);
    const double after = run.divergence();
    EXPECT_NEAR(result.divergence_after, after, 1e-2 * after) << to_string(scheme);
    EXPECT_LT(after, 0.95 * before) << to_string(scheme);
    EXPECT_GT(result.step, 0);
    const auto now = run.codes();
    for (size_t i = 0; i < codes.size(); ++i) EXPECT_TRUE(at::equal(codes[i], now[i]));
    for (const FinishedBlock& block : run.context.blocks) {
      for (const auto& linear : block.linears) EXPECT_NO_THROW(linear->validate("test"));
    }
  }
}

TEST(Distillation, OutputScalesStayOnRequest) {
  ModelRun run(kZeroPoints);
  const auto scales = run.scales();
  DistillationOptions options = kShort;
  options.scales = false;
  EXPECT_GT(distill(run.context, options).step, 0);
  EXPECT_EQ(run.scales(), scales);
  EXPECT_FALSE(at::equal(run.context.gain, run.model.outer.final_gain));
  ModelRun all(kZeroPoints);
  distill(all.context, kShort);
  EXPECT_NE(all.scales(), scales);
}

TEST(Distillation, IsTheSameForASeed) {
  ModelRun first(kZeroPoints), second(kZeroPoints), other(kZeroPoints);
  DistillationOptions reseeded = kShort;
  reseeded.seed = 5;
  distill(first.context, kShort);
  distill(second.context, kShort);
  distill(other.context, reseeded);
  EXPECT_EQ(first.scales(), second.scales());
  EXPECT_NE(first.scales(), other.scales());
}

TEST(Distillation, LeavesModelsAloneThatItWouldHarm) {
  ModelRun run(kZeroPoints);
  const auto scales = run.scales();
  const DistillationResult result = distill(run.context, {.steps = 5, .learning_rate = 0.1, .seed = 1});
  EXPECT_EQ(result.step, 0);
  EXPECT_EQ(result.divergence_after, result.divergence_before);
  EXPECT_EQ(run.scales(), scales);
  EXPECT_TRUE(at::equal(run.context.gain, run.model.outer.final_gain));
}

TEST(Distillation, StandsBehindWhatQuantizes) {
  const ModelSpec spec = test_spec({});
  const PerLinear<LinearScheme> schemes(spec.linears.size());
  std::vector<std::unique_ptr<Pass>> earlier;
  const auto check = [&] { make_pass({{"pass", "distill"}})->check({spec, schemes, earlier}); };
  EXPECT_NE(error_of(check).find("put it behind rtn or gptq"), std::string::npos);
  earlier.push_back(make_pass(kRtn));
  EXPECT_NO_THROW(check());
}

}  // namespace
}  // namespace tessera
