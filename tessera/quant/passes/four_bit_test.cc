// What keeps blocks usable with 4-bit activations: outlier columns and reassembled channels.
#include <gtest/gtest.h>

#include "tessera/format/reference.h"
#include "tessera/quant/passes/pass_run.h"

namespace tessera {
namespace {

constexpr ActivationFormat kFourBit{4, false, true};

/// Error of the block in W4A4 after `steps`.
double four_bit_error(const TestModelOptions& family, const std::vector<nlohmann::json>& steps,
                      bool symmetric = true) {
  PassRun run(family, {4, 0, symmetric});
  for (LinearScheme& scheme : run.context->schemes) scheme.activation = kFourBit;
  run.run(steps);
  for (LinearId id : run.model.spec.linear_ids()) run.context->quantized[id]->validate("test");
  return run.block_error();
}

TEST(OutliersPass, ReadersOfASiteShareThemAndErrorsFall) {
  for (const TestModelOptions& family : kTestFamilies) {
    const nlohmann::json outliers = {{"pass", "outliers"}, {"max_share", 0.25}};
    PassRun run(family, {4, 0});
    run.run({outliers});
    EXPECT_EQ(run.context->split[run.model.spec.id(kQ)].count, 16);
    EXPECT_TRUE(at::equal(run.context->split[run.model.spec.id(kQ)].outliers(),
                          run.context->split[run.model.spec.id(kV)].outliers()));
    EXPECT_TRUE((run.context->split[run.model.spec.id(kQ)].outliers() == 5).any().item<bool>());
    const int64_t loud = run.model.spec.has(kMlpNorm) ? 9 : 5;
    EXPECT_TRUE((run.context->split[run.model.spec.id(kUp)].outliers() == loud).any().item<bool>());
    EXPECT_EQ(run.context->report["sites"]["down"]["outliers"]["outliers"], 32);
    for (const char* quantizer : {"rtn", "gptq"}) {
      const nlohmann::json last = {{"pass", quantizer}};
      EXPECT_LT(four_bit_error(family, {outliers, last}), 0.5 * four_bit_error(family, {last})) << quantizer;
    }
  }
}

TEST(OutliersPass, T4_ThresholdSparesQuietSites) {
  PassRun run({});
  run.run({{{"pass", "outliers"}}});
  const auto& sites = run.context->report["sites"];
  const double absmax = sites["down"]["outliers"]["absmax"].get<double>();
  for (const double factor : {1.0, 0.999}) {  // 8-bit inputs: the threshold counts twice
    PassRun limited({});
    limited.run({{{"pass", "outliers"}, {"threshold", 0.5 * absmax * factor}}});
    EXPECT_EQ(limited.context->split[limited.model.spec.id(kDown)].count == 0, factor == 1.0);
  }
}

TEST(GptqPass, SparseLayersGatherTheirInputs) {
  const nlohmann::json outliers = {{"pass", "outliers"}, {"max_share", 0.25}};
  PassRun run({}, {4, 0});
  run.run({outliers, {{"pass", "gptq"}, {"sparse", "attention"}, {"act_order", false}}});
  EXPECT_FALSE(run.context->quantized[run.model.spec.id(kQ)]->input_index.empty());
  EXPECT_TRUE(run.context->quantized[run.model.spec.id(kUp)]->input_index.empty());
  EXPECT_LT(run.block_error(), 1.0);
  PassRun grouped({});
  EXPECT_THROW(grouped.run({{{"pass", "gptq"}, {"sparse", "all"}}}), Error);
}

TEST(ReassemblePass, BeatsRoundingAndScoresTheIdentity) {
  for (const TestModelOptions& family : kTestFamilies) {
    const double rounded = four_bit_error(family, {{{"pass", "rtn"}}}, false);
    for (const nlohmann::json& step : {nlohmann::json{{"pass", "reassemble"}},
                                       {{"pass", "reassemble"}, {"assembly", false}},
                                       {{"pass", "reassemble"}, {"virtual", true}},
                                       {{"pass", "reassemble"}, {"metric", "legacy"}}}) {
      EXPECT_LT(four_bit_error(family, {step, {{"pass", "rtn"}}}, false), 0.8 * rounded) << step.dump();
    }
    PassRun run(family, {4, 0, false});
    for (LinearScheme& scheme : run.context->schemes) scheme.activation = kFourBit;
    run.run({{{"pass", "reassemble"}}});
    for (const Site& site : run.model.spec.sites) {
      if (run.model.spec.reads_attention(site)) continue;
      const auto& report = run.context->report["sites"][site.name]["reassemble"];
      EXPECT_LE(report["loss"].get<double>(), report["loss_identity"].get<double>());
      EXPECT_LE(report["expansion"].get<double>(), 0.2);
    }
    EXPECT_GT(
        run.context->report["sites"][run.model.spec.sites[0].name]["reassemble"]["split_channels"].get<int>(),
        0);
    EXPECT_TRUE(run.context->block.map[run.model.spec.id(kO)].identity());
    EXPECT_LT(run.drift(), 1) << "merges change the function, but not beyond recognition";
  }
}

TEST(ReassemblePass, SplittingAloneKeepsTheFunction) {
  for (const bool shared : {false, true}) {
    PassRun run({.biases = true});
    for (LinearScheme& scheme : run.context->schemes) scheme.activation = kFourBit;
    run.run({{{"pass", "reassemble"}, {"assembly", false}, {"virtual", shared}}});
    EXPECT_FALSE(run.context->block.map[run.model.spec.id(kQ)].identity());
    EXPECT_LT(run.drift(), 1e-4);
  }
}

TEST(ReassemblePass, RefusesWhatDoesNotGoTogether) {
  const nlohmann::json reassemble = {{"pass", "reassemble"}};
  EXPECT_THROW(PassRun({}).run({{{"pass", "outliers"}, {"max_share", 0.25}}, reassemble}), Error);
  EXPECT_THROW(PassRun({}).run({{{"pass", "reassemble"}, {"virtual", true}}}), Error)
      << "8-bit codes fill int8";
  PassRun behind({}, {4, 0});
  behind.run({reassemble});
  EXPECT_THROW(behind.run({{{"pass", "smooth"}, {"tokens", 64}}}), Error);
}

TEST(Passes, FourBitMethodsEqualTheIntegerReference) {
  const nlohmann::json outliers = {{"pass", "outliers"}, {"max_share", 0.25}};
  const std::vector<std::vector<nlohmann::json>> recipes = {
      {outliers, {{"pass", "gptq"}, {"act_order", false}, {"sparse", "all"}}},
      {{{"pass", "reassemble"}}, {{"pass", "rtn"}}},
      {{{"pass", "reassemble"}, {"virtual", true}}, {{"pass", "rtn"}}}};
  for (const auto& recipe : recipes) {
    const bool sparse = recipe[0] == outliers;
    PassRun run({}, {4, 0, sparse});
    for (LinearScheme& scheme : run.context->schemes) scheme.activation = kFourBit;
    run.run(recipe);
    for (LinearId id : run.model.spec.linear_ids()) {
      const QuantizedLinear& linear = *run.context->quantized[id];
      at::manual_seed(6);
      const at::Tensor x = at::randn({5, run.model.spec.linears[id].k});
      std::vector<float> y(static_cast<size_t>(5 * linear.n));
      std::vector<int32_t> expected;
      reference_forward(linear, {x.data_ptr<float>(), static_cast<size_t>(x.numel())}, 5, y, &expected);
      const at::Tensor actual = FakeQuantLinear(linear, at::kCPU).accumulators(x).contiguous();
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), actual.data_ptr<int64_t>()));
    }
  }
}

}  // namespace
}  // namespace tessera
