// Options of passes, and 8-bit activations behind every pass on random blocks.
#include "tessera/quant/passes/passes.h"

#include <gtest/gtest.h>

#include "tessera/quant/passes/pass_run.h"

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
  PerLinear<LinearScheme> schemes(spec.linears.size());
  const auto needs = [&](const nlohmann::json& step) {
    return make_pass(step)->needs_calibration({spec, schemes, {}});
  };
  EXPECT_FALSE(needs({{"pass", "rtn"}}));
  EXPECT_FALSE(needs({{"pass", "rtn"}, {"clip", "mse"}}));
  EXPECT_TRUE(needs({{"pass", "rtn"}, {"clip", "weighted"}}));
  EXPECT_TRUE(needs({{"pass", "rtn"}, {"search", true}}));
  EXPECT_TRUE(needs({{"pass", "rtn"}, {"clip", "output"}}));
  EXPECT_TRUE(needs({{"pass", "gptq"}}));
  schemes[spec.id(kDown)].activation.per_token = false;
  EXPECT_TRUE(needs({{"pass", "rtn"}}));
}

TEST(RtnPass, QuantizesEveryLinear) {
  for (const TestModelOptions& family : kTestFamilies) {
    PassRun run(family);
    run.run({{{"pass", "rtn"}}});
    for (LinearId id : run.model.spec.linear_ids()) {
      ASSERT_TRUE(run.context->quantized[id]);
      EXPECT_NO_THROW(run.context->quantized[id]->validate("test"));
    }
    EXPECT_TRUE(
        run.context->report["sites"][run.model.spec.sites[0].name]["rtn"].contains("absmax_to_median"));
    EXPECT_GT(run.context->report["linears"]["q_proj"]["rtn"]["error"].get<double>(), 0);
    EXPECT_LT(run.block_error(), 0.5);
  }
}

TEST(RtnPass, StaticScalesComeFromTheInputs) {
  PassRun run({});
  for (LinearScheme& scheme : run.context->schemes) scheme.activation.per_token = false;
  run.run({{{"pass", "rtn"}}});
  const float scale = run.context->quantized[run.model.spec.id(kQ)]->input_scale.as<float>()[0];
  const double absmax =
      run.context->report["sites"][run.model.spec.sites[0].name]["rtn"]["absmax"].get<double>();
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
    for (LinearRole role : {kQ, kV}) {
      EXPECT_FLOAT_EQ(run.context->quantized[run.model.spec.id(role)]->input_scale.as<float>()[0],
                      channels.max().item<float>() / 127);
    }
  }
}

TEST(EqualizePass, D1_KeepsTheFunctionAndTamesTheOutliers) {
  for (const TestModelOptions& family : kTestFamilies) {
    for (const char* rule : {"percentile", "smoothquant"}) {
      PassRun run(family);
      run.run({{{"pass", "equalize"}, {"rule", rule}, {"fraction", 0.02}, {"sites", "all"}}});
      EXPECT_LT(run.drift(), 1e-5);
      const auto& site = run.context->report["sites"][run.model.spec.sites[0].name]["equalize"];
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
  EXPECT_EQ(scaled(kTestFamilies[0], "norms"), "gate_up qkv ");
  EXPECT_EQ(scaled(kTestFamilies[0], "norms_and_gated"), "down gate_up qkv ");
  EXPECT_EQ(scaled(kTestFamilies[2], "norms_and_gated"), "qkv up ");
}

TEST(RtnPass, DgqSearchBeatsRoundingOfEveryKind) {
  for (const TestModelOptions& family : kTestFamilies) {
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
  const auto& site = run.context->report["sites"][run.model.spec.sites[0].name]["smooth"];
  EXPECT_LE(site["loss"].get<double>(), site["loss_unsmoothed"].get<double>());
  EXPECT_TRUE(site.contains("exponent"));
}

TEST(SmoothPass, KeepsTheFunctionAndFindsTheOutliers) {
  for (const TestModelOptions& family : kTestFamilies) {
    PassRun run(family);
    run.run({{{"pass", "smooth"}, {"tokens", 128}}});
    EXPECT_LT(run.drift(), 1e-4);
    const auto& site = run.context->report["sites"][run.model.spec.sites[0].name]["smooth"];
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
  EXPECT_GT(run.context->report["sites"][run.model.spec.sites[0].name]["smooth"]["evaluations"].get<int>(),
            100);
}

TEST(GptqPass, BeatsRoundingAndSmoothingHelpsFurther) {
  for (const WeightScheme& weight : {WeightScheme{4, 32}, WeightScheme{4, 0}}) {
    for (const TestModelOptions& family : kTestFamilies) {
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

/// "GPTAQ": with asymmetric calibration a linear comes as near to the float model's output as any weight can
/// on the inputs that the quantized model gives it.
TEST(GptqPass, AsymmetricCalibrationReachesLeastSquares) {
  const auto error = [](double share) {
    PassRun run({}, {8, 0});
    for (LinearScheme& scheme : run.context->schemes) scheme.activation.bits = 16;
    run.context->x_quant = run.x + at::randn_like(run.x) * 0.3 + run.x.roll(1, 2) * 0.3;
    run.run({{{"pass", "gptq"}, {"asymmetric", share}, {"damping", 1e-6}}});
    const auto input = [&](const at::Tensor& x) {
      return norm_forward(run.model.spec, run.context->block, kAttentionNorm, x).flatten(0, 1);
    };
    const LinearId q = run.model.spec.id(kQ);
    const at::Tensor seen = input(run.context->x_quant),
                     target = at::matmul(input(run.x), run.context->block.weight[q].t()),
                     output = fake_quant_linears(run.context->quantized, at::kCPU)(q, seen);
    const at::Tensor best = at::matmul(seen, std::get<0>(at::linalg_lstsq(seen, target)));
    return ((output - target).norm() / (best - target).norm()).item<double>();
  };
  EXPECT_GT(error(0), 1.2);
  EXPECT_LT(error(1), 1.05);
  EXPECT_LT(error(0.5), error(0));
}

TEST(GptqPass, AsymmetricCalibrationNeedsTheFloatModelsActivations) {
  const ModelSpec spec = test_spec({});
  const PerLinear<LinearScheme> schemes(spec.linears.size());
  std::vector<std::unique_ptr<Pass>> earlier;
  earlier.push_back(make_pass({{"pass", "correct"}}));
  const auto pass = make_pass({{"pass", "gptq"}, {"asymmetric", 1.0}});
  EXPECT_NO_THROW(pass->check({spec, schemes, {}}));
  EXPECT_THROW(pass->check({spec, schemes, earlier}), Error);
  EXPECT_NO_THROW(make_pass({{"pass", "gptq"}})->check({spec, schemes, earlier}));
}

TEST(GptqPass, ReportsWhatItDid) {
  PassRun run({});
  run.run({{{"pass", "gptq"}, {"true_sequential", true}, {"quantized_input", true}}});
  for (LinearId id : run.model.spec.linear_ids()) {
    EXPECT_NO_THROW(run.context->quantized[id]->validate("test"));
    const auto& report = run.context->report["linears"][run.model.spec.linears[id].name]["gptq"];
    EXPECT_LT(report["error"].get<double>(), report["error_rtn"].get<double>());
    EXPECT_GT(report["loss"].get<double>(), 0);
    EXPECT_EQ(report["damping"].get<double>(), 0.01);
  }
  EXPECT_TRUE(run.context->report["seconds"].contains("gptq"));
}

TEST(RotatePass, KeepsTheFunctionInTheRotatedBasis) {
  for (const TestModelOptions& family : kTestFamilies) {
    PassRun run(family);
    const auto pass = make_pass({{"pass", "rotate"}});
    OuterWeights outer = run.model.outer;
    pass->run_on_outer(run.model.spec, outer);
    EXPECT_TRUE(pass->unties_embedding());
    pass->run_on_block(*run.context);
    EXPECT_LT(run.context->report["rotate"]["block_difference"].get<double>(), 1e-5);
    const auto& site = run.context->report["sites"][run.model.spec.sites[0].name]["rotate"];
    EXPECT_LT(site["after"]["absmax_to_median"].get<double>(),
              site["before"]["absmax_to_median"].get<double>());
  }
}

TEST(Passes, AreDeterministic) {
  const std::vector<nlohmann::json> steps = {{{"pass", "smooth"}, {"tokens", 64}}, {{"pass", "gptq"}}};
  PassRun first({}), second({});
  first.run(steps);
  second.run(steps);
  for (LinearId id : first.model.spec.linear_ids()) {
    const auto a = first.context->quantized[id]->qweight.as<uint8_t>(),
               b = second.context->quantized[id]->qweight.as<uint8_t>();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

}  // namespace
}  // namespace tessera
