// Options of passes, and every pass on random blocks and a real one.
#include "tessera/quant/passes/passes.h"

#include <gtest/gtest.h>

#include "tessera/base/test_paths.h"
#include "tessera/format/reference.h"
#include "tessera/quant/fake_quant.h"
#include "tessera/quant/tensor_bridge.h"
#include "tessera/quant/test_models.h"

namespace tessera {
namespace {

std::string message_of(const nlohmann::json& step) {
  try {
    make_pass(step);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(MakePass, RefusesWhatItDoesNotKnow) {
  EXPECT_NE(message_of({{"pass", "magic"}}).find("known: "), std::string::npos);
  EXPECT_NE(message_of({{"pass", "rtn"}, {"speed", 3}}).find("unknown option 'speed'"), std::string::npos);
  EXPECT_NE(message_of({{"pass", "rtn"}, {"search", "yes"}}).find("search: expected something like"),
            std::string::npos);
  EXPECT_NE(message_of({{"pass", "rtn"}, {"clip", "hard"}}).find("none, mse, weighted, output"),
            std::string::npos);
  EXPECT_NE(message_of("rtn").find("names no pass"), std::string::npos);
}

TEST(MakePass, MakesEveryKnownPassWithItsDefaults) {
  for (const PassInfo& info : known_passes()) {
    nlohmann::json step = info.defaults;
    step["pass"] = info.name;
    EXPECT_EQ(make_pass(step)->name(), info.name);
  }
}

TEST(RotatePass, RefusesANormBehindTheEmbedding) {
  ModelSpec spec = test_spec({.layer_norm = true});
  spec.embedding_norm = "embedding_norm";
  EXPECT_THROW(make_pass({{"pass", "rotate"}})->check({spec, {}, {}}), Error);
}

TEST(RtnPass, KnowsWhenItNeedsCalibration) {
  const ModelSpec spec = test_spec({});
  std::array<LinearScheme, kLinearCount> schemes;
  const auto needs = [&](const nlohmann::json& step) {
    return make_pass(step)->needs_calibration({spec, schemes, {}});
  };
  EXPECT_FALSE(needs({{"pass", "rtn"}}));
  EXPECT_FALSE(needs({{"pass", "rtn"}, {"clip", "mse"}}));
  EXPECT_TRUE(needs({{"pass", "rtn"}, {"clip", "weighted"}}));
  EXPECT_TRUE(needs({{"pass", "rtn"}, {"search", true}}));
  EXPECT_TRUE(needs({{"pass", "rtn"}, {"clip", "output"}}));
  EXPECT_TRUE(needs({{"pass", "gptq"}}));
  schemes[kDown].activation.per_token = false;
  EXPECT_TRUE(needs({{"pass", "rtn"}}));
}

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
    context.emplace(BlockContext{.spec = model.spec,
                                 .layer = 0,
                                 .schemes = {},
                                 .x_float = x,
                                 .x_quant = x,
                                 .block = model.blocks[0],
                                 .quantized = {},
                                 .report = nlohmann::json::object(),
                                 .reporter = reporter});
    context->schemes.fill({weight, {}});
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

const std::vector<TestModelOptions> kFamilies = {{},
                                                 {.kv_heads = 2, .biases = true},
                                                 {.biases = true, .layer_norm = true},
                                                 {.kv_heads = 1, .head_norms = true, .parallel = true}};

TEST(RtnPass, QuantizesEveryLinear) {
  for (const TestModelOptions& family : kFamilies) {
    PassRun run(family);
    run.run({{{"pass", "rtn"}}});
    for (LinearId id : run.model.spec.existing_linears()) {
      ASSERT_TRUE(run.context->quantized[id]);
      EXPECT_NO_THROW(run.context->quantized[id]->validate("test"));
    }
    EXPECT_TRUE(run.context->report["sites"]["qkv"]["rtn"].contains("absmax_to_median"));
    EXPECT_GT(run.context->report["linears"]["q_proj"]["rtn"]["error"].get<double>(), 0);
    EXPECT_LT(run.block_error(), 0.5);
  }
}

TEST(RtnPass, StaticScalesComeFromTheInputs) {
  PassRun run({});
  for (LinearScheme& scheme : run.context->schemes) scheme.activation.per_token = false;
  run.run({{{"pass", "rtn"}}});
  const float scale = run.context->quantized[kQ]->input_scale.as<float>()[0];
  const double absmax = run.context->report["sites"]["qkv"]["rtn"]["absmax"].get<double>();
  EXPECT_NEAR(scale, absmax / 127, 1e-6 * absmax);
}

/// "DGQ", 6.2: with quantile 0 a channel counts with its quietest window.
TEST(RtnPass, StaticScalesFollowAQuantileOfTheWindows) {
  for (const double quantile : {0.0, 1.0}) {
    PassRun run({});
    for (LinearScheme& scheme : run.context->schemes) scheme.activation.per_token = false;
    run.run({{{"pass", "rtn"}, {"static_quantile", quantile}}});
    const at::Tensor input = norm_forward(run.model.spec, run.context->block, kAttentionNorm, run.x);
    const at::Tensor windows = at::amax(input.abs(), {1});
    const at::Tensor channels = quantile == 0 ? at::amin(windows, {0}) : at::amax(windows, {0});
    for (LinearId id : {kQ, kV}) {
      EXPECT_FLOAT_EQ(run.context->quantized[id]->input_scale.as<float>()[0],
                      channels.max().item<float>() / 127);
    }
  }
}

TEST(EqualizePass, D1_KeepsTheFunctionAndTamesTheOutliers) {
  for (const TestModelOptions& family : kFamilies) {
    for (const char* rule : {"percentile", "smoothquant"}) {
      PassRun run(family);
      run.run({{{"pass", "equalize"}, {"rule", rule}, {"fraction", 0.02}, {"sites", "all"}}});
      EXPECT_LT(run.drift(), 1e-5);
      const auto& site = run.context->report["sites"]["qkv"]["equalize"];
      EXPECT_LT(site["after"]["absmax"].get<double>(), 0.5 * site["absmax"].get<double>()) << rule;
    }
  }
}

TEST(EqualizePass, ScalesTheSitesThatItIsToldTo) {
  const auto scaled = [](const TestModelOptions& family, const char* sites) {
    PassRun run(family);
    run.run({{{"pass", "equalize"}, {"fraction", 0.02}, {"sites", sites}}});
    std::string names;
    for (const auto& [name, report] : run.context->report["sites"].items()) names += name + " ";
    return names;
  };
  EXPECT_EQ(scaled(kFamilies[0], "norms"), "gate_up qkv ");
  EXPECT_EQ(scaled(kFamilies[0], "norms_and_gated"), "down gate_up qkv ");
  EXPECT_EQ(scaled(kFamilies[2], "norms_and_gated"), "qkv up ");
}

TEST(RtnPass, DgqSearchBeatsRoundingOfEveryKind) {
  for (const TestModelOptions& family : kFamilies) {
    const auto error = [&](const nlohmann::json& options) {
      nlohmann::json step{{"pass", "rtn"}};
      step.update(options);
      PassRun run(family, {4, 32, false});
      for (LinearScheme& scheme : run.context->schemes) scheme.activation.bits = 16;
      return run.run({{{"pass", "equalize"}}, step}).block_error();
    };
    const double searched = error({{"clip", "output"}, {"search", true}});
    EXPECT_LT(searched, error({{"clip", "output"}}));
    EXPECT_LT(searched, error(nlohmann::json::object()));
    EXPECT_NE(error({{"clip", "output"}, {"search", true}, {"samples", "last"}}), searched);
    EXPECT_NEAR(error({{"clip", "output"}, {"scales", "float"}}), searched, 0.1 * searched);
  }
}

TEST(RtnPass, QuantizedInputsCanBeTheObjective) {
  for (const bool per_token : {true, false}) {
    const auto error = [&](const nlohmann::json& options) {
      PassRun run({}, {4, 32, false});
      for (LinearScheme& scheme : run.context->schemes) scheme.activation = {4, true, per_token};
      nlohmann::json step{{"pass", "rtn"}, {"clip", "output"}, {"search", true}};
      step.update(options);
      return run.run({{{"pass", "equalize"}, {"fraction", 0.02}}, step}).block_error();
    };
    EXPECT_LT(error({{"objective", "quantized"}}), error({{"objective", "float"}}));
  }
}

TEST(SmoothPass, AwqRuleKeepsTheFunctionAndHelps) {
  PassRun run({}, {4, 32, false});
  for (LinearScheme& scheme : run.context->schemes) scheme.activation.bits = 16;
  run.run({{{"pass", "smooth"}, {"rule", "awq"}, {"tokens", 128}}});
  EXPECT_LT(run.drift(), 1e-4);
  const auto& site = run.context->report["sites"]["qkv"]["smooth"];
  EXPECT_LE(site["loss"].get<double>(), site["loss_unsmoothed"].get<double>());
  EXPECT_TRUE(site.contains("exponent"));
}

TEST(SmoothPass, KeepsTheFunctionAndFindsTheOutliers) {
  for (const TestModelOptions& family : kFamilies) {
    PassRun run(family);
    run.run({{{"pass", "smooth"}, {"tokens", 128}}});
    EXPECT_LT(run.drift(), 1e-4);
    const auto& site = run.context->report["sites"]["qkv"]["smooth"];
    EXPECT_GE(site["scaled_channels"].get<int>(), 1);
    EXPECT_LT(site["loss"].get<double>(), 0.5 * site["loss_unsmoothed"].get<double>());
    EXPECT_LT(site["after"]["absmax_to_median"].get<double>(), 0.5 * site["absmax_to_median"].get<double>());
    const auto& linear = run.context->report["linears"]["q_proj"]["smooth"];
    EXPECT_LT(linear["error_after"].get<double>(), linear["error_before"].get<double>());
  }
}

TEST(SmoothPass, SkipsTheValuePathOfSharedHeadsWhenAsked) {
  for (const bool skip : {false, true}) {
    PassRun run({.kv_heads = 2});
    run.run({{{"pass", "smooth"}, {"tokens", 64}, {"shared_heads", skip ? "skip" : "max"}}});
    EXPECT_EQ(run.context->report["sites"].contains("o"), !skip);
    EXPECT_LT(run.drift(), 1e-4);
  }
}

TEST(SmoothPass, QqqGridAlsoWorks) {
  PassRun run({});
  run.run({{{"pass", "smooth"}, {"tokens", 32}, {"grid", "qqq"}}});
  EXPECT_GT(run.context->report["sites"]["qkv"]["smooth"]["evaluations"].get<int>(), 100);
}

TEST(GptqPass, BeatsRoundingAndSmoothingHelpsFurther) {
  for (const WeightScheme& weight : {WeightScheme{4, 32}, WeightScheme{4, 0}}) {
    for (const TestModelOptions& family : kFamilies) {
      const double rtn = PassRun(family, weight).run({{{"pass", "rtn"}}}).block_error();
      const double gptq = PassRun(family, weight).run({{{"pass", "gptq"}}}).block_error();
      const double both = PassRun(family, weight)
                              .run({{{"pass", "smooth"}, {"tokens", 128}}, {{"pass", "gptq"}}})
                              .block_error();
      EXPECT_LT(gptq, rtn);
      EXPECT_LT(both, gptq);
    }
  }
}

TEST(GptqPass, ReportsWhatItDid) {
  PassRun run({});
  run.run({{{"pass", "gptq"}, {"true_sequential", true}, {"quantized_input", true}}});
  for (LinearId id : run.model.spec.existing_linears()) {
    EXPECT_NO_THROW(run.context->quantized[id]->validate("test"));
    const auto& report = run.context->report["linears"][run.model.spec.linears[id].name]["gptq"];
    EXPECT_LT(report["error"].get<double>(), report["error_rtn"].get<double>());
    EXPECT_GT(report["loss"].get<double>(), 0);
    EXPECT_EQ(report["damping"].get<double>(), 0.01);
  }
  EXPECT_TRUE(run.context->report["seconds"].contains("gptq"));
}

constexpr ActivationFormat kFourBit{4, false, true};

/// Error of the block in W4A4 after `steps`.
double four_bit_error(const TestModelOptions& family, const std::vector<nlohmann::json>& steps,
                      bool symmetric = true) {
  PassRun run(family, {4, 0, symmetric});
  for (LinearScheme& scheme : run.context->schemes) scheme.activation = kFourBit;
  run.run(steps);
  for (LinearId id : run.model.spec.existing_linears()) run.context->quantized[id]->validate("test");
  return run.block_error();
}

TEST(OutliersPass, ReadersOfASiteShareThemAndErrorsFall) {
  for (const TestModelOptions& family : kFamilies) {
    const nlohmann::json outliers = {{"pass", "outliers"}, {"max_share", 0.25}};
    PassRun run(family, {4, 0});
    run.run({outliers});
    EXPECT_EQ(run.context->split[kQ].count, 16);
    EXPECT_TRUE(at::equal(run.context->split[kQ].outliers(), run.context->split[kV].outliers()));
    EXPECT_TRUE((run.context->split[kQ].outliers() == 5).any().item<bool>());
    const int64_t loud = run.model.spec.has(kMlpNorm) ? 9 : 5;
    EXPECT_TRUE((run.context->split[kUp].outliers() == loud).any().item<bool>());
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
    EXPECT_EQ(limited.context->split[kDown].count == 0, factor == 1.0);
  }
}

TEST(GptqPass, SparseLayersGatherTheirInputs) {
  const nlohmann::json outliers = {{"pass", "outliers"}, {"max_share", 0.25}};
  PassRun run({}, {4, 0});
  run.run({outliers, {{"pass", "gptq"}, {"sparse", "attention"}, {"act_order", false}}});
  EXPECT_FALSE(run.context->quantized[kQ]->input_index.empty());
  EXPECT_TRUE(run.context->quantized[kUp]->input_index.empty());
  EXPECT_LT(run.block_error(), 1.0);
  PassRun grouped({});
  EXPECT_THROW(grouped.run({{{"pass", "gptq"}, {"sparse", "all"}}}), Error);
}

TEST(ReassemblePass, BeatsRoundingAndScoresTheIdentity) {
  for (const TestModelOptions& family : kFamilies) {
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
      if (site.readers.front() == kO) continue;
      const auto& report = run.context->report["sites"][site.name]["reassemble"];
      EXPECT_LE(report["loss"].get<double>(), report["loss_identity"].get<double>());
      EXPECT_LE(report["expansion"].get<double>(), 0.2);
    }
    EXPECT_GT(run.context->report["sites"]["qkv"]["reassemble"]["split_channels"].get<int>(), 0);
    EXPECT_TRUE(run.context->block.map[kO].identity());
    EXPECT_LT(run.drift(), 1) << "merges change the function, but not beyond recognition";
  }
}

TEST(ReassemblePass, SplittingAloneKeepsTheFunction) {
  for (const bool shared : {false, true}) {
    PassRun run({.biases = true});
    for (LinearScheme& scheme : run.context->schemes) scheme.activation = kFourBit;
    run.run({{{"pass", "reassemble"}, {"assembly", false}, {"virtual", shared}}});
    EXPECT_FALSE(run.context->block.map[kQ].identity());
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
    for (LinearId id : run.model.spec.existing_linears()) {
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

TEST(RotatePass, KeepsTheFunctionInTheRotatedBasis) {
  for (const TestModelOptions& family : kFamilies) {
    PassRun run(family);
    const auto pass = make_pass({{"pass", "rotate"}});
    OuterWeights outer = run.model.outer;
    pass->run_on_outer(run.model.spec, outer);
    EXPECT_TRUE(pass->unties_embedding());
    pass->run_on_block(*run.context);
    EXPECT_LT(run.context->report["rotate"]["block_difference"].get<double>(), 1e-5);
    const auto& site = run.context->report["sites"]["qkv"]["rotate"];
    EXPECT_LT(site["after"]["absmax_to_median"].get<double>(),
              site["before"]["absmax_to_median"].get<double>());
  }
}

TEST(Passes, AreDeterministic) {
  const std::vector<nlohmann::json> steps = {{{"pass", "smooth"}, {"tokens", 64}}, {{"pass", "gptq"}}};
  PassRun first({}), second({});
  first.run(steps);
  second.run(steps);
  for (LinearId id : first.model.spec.existing_linears()) {
    const auto a = first.context->quantized[id]->qweight.as<uint8_t>(),
               b = second.context->quantized[id]->qweight.as<uint8_t>();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

/// "QQQ" on a real block: GPTQ's output error is below rounding's at every linear.
TEST(GptqPass, T6_BeatsRoundingOnEveryLinearOfARealBlock) {
  const auto dir = shared_dir() / "models" / "demo-llama";
  TESSERA_REQUIRE_FILE(dir / "golden.safetensors");
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir));
  const Checkpoint checkpoint(dir);
  at::manual_seed(4);
  const at::Tensor ids = at::randint(spec.vocab_size, {8, 128}, at::kLong);
  at::Tensor x = at::embedding(to_float_tensor(checkpoint.at(spec.embedding), at::kCPU), ids);
  Reporter reporter;
  for (int64_t layer = 0; layer < 2; ++layer) {
    BlockContext context{.spec = spec,
                         .layer = layer,
                         .schemes = {},
                         .x_float = x,
                         .x_quant = x,
                         .block = load_block(checkpoint, spec, layer, at::kCPU),
                         .quantized = {},
                         .report = nlohmann::json::object(),
                         .reporter = reporter};
    context.schemes.fill({{4, 128}, {}});
    make_pass({{"pass", "gptq"}})->run_on_block(context);
    for (LinearId id : spec.existing_linears()) {
      const auto& report = context.report["linears"][spec.linears[id].name]["gptq"];
      EXPECT_LT(report["error"].get<double>(), report["error_rtn"].get<double>())
          << layer << spec.linears[id].name;
    }
    x = block_forward(spec, context.block, float_linears(context.block), x);
  }
}

/// "DGQ" on real blocks: integer group scales cost little against float ones, deriving them without the
/// search costs more.
TEST(RtnPass, D5_IntegerScalesComeNearFloatScalesOnRealBlocks) {
  const auto dir = shared_dir() / "models" / "demo-llama";
  TESSERA_REQUIRE_FILE(dir / "golden.safetensors");
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir));
  const Checkpoint checkpoint(dir);
  at::manual_seed(4);
  const at::Tensor ids = at::randint(spec.vocab_size, {4, 128}, at::kLong);
  const at::Tensor x = at::embedding(to_float_tensor(checkpoint.at(spec.embedding), at::kCPU), ids);
  Reporter reporter;
  const auto errors = [&](const nlohmann::json& options) {
    BlockContext context{.spec = spec,
                         .layer = 0,
                         .schemes = {},
                         .x_float = x,
                         .x_quant = x,
                         .block = load_block(checkpoint, spec, 0, at::kCPU),
                         .quantized = {},
                         .report = nlohmann::json::object(),
                         .reporter = reporter};
    context.schemes.fill({{4, 128, false}, {16, true, true}});
    nlohmann::json step{{"pass", "rtn"}, {"clip", "output"}};
    step.update(options);
    make_pass(step)->run_on_block(context);
    std::vector<float> squares;
    for (LinearId id : spec.existing_linears()) {
      const double error = context.report["linears"][spec.linears[id].name]["rtn"]["error"];
      squares.push_back(static_cast<float>(error * error));
    }
    return at::tensor(at::ArrayRef<float>(squares)).clone();
  };
  const at::Tensor floats = errors({{"scales", "float"}}), searched = errors({{"search", true}}) / floats,
                   rounded = errors({{"search", false}}) / floats;
  EXPECT_LE(searched.median().item<float>(), 1.03) << searched;
  EXPECT_GT(rounded.median().item<float>(), searched.median().item<float>()) << rounded;
}

}  // namespace
}  // namespace tessera
