// Tuning of codes: what it starts from, what it keeps, and when it leaves a block alone.
#include "tessera/quant/passes/tuning.h"

#include <gtest/gtest.h>

#include "tessera/base/test_error.h"
#include "tessera/quant/block/token_errors.h"
#include "tessera/quant/grid/weight_grid.h"
#include "tessera/quant/passes/pass_run.h"

namespace tessera {
namespace {

const nlohmann::json kRtn{{"pass", "rtn"}}, kGptq{{"pass", "gptq"}},
    kTune{{"pass", "tune"}, {"steps", 80}, {"learning_rate", 0.004}};

const LinearScheme kPerOutput{{4, 0}, {}}, kGroups{{4, 32}, {}}, kZeroPoints{{4, 32, false}, {}},
    kOutputZero{{4, 0, false}, {8, false, true}}, kStatic{{4, 32, false}, {8, true, false}},
    kRealZero{{4, 0}, {8, false, true, true}}, kWeightsOnly{{4, 32, false}, {16, true, true}};

/// Passes on enough windows that what is trained on some helps the others.
struct SchemeRun : PassRun {
  explicit SchemeRun(const LinearScheme& scheme, const TestModelOptions& family = {}) : PassRun(family) {
    for (LinearScheme& of_linear : context->schemes) of_linear = scheme;
    x = at::randn({64, 64, model.spec.hidden_size});
    context->x_float = context->x_quant = x;
  }
};

void expect_error(const std::function<void()>& action, const std::string& text) {
  EXPECT_NE(error_of(action).find(text), std::string::npos) << error_of(action);
}

/// Bytes of the codes of all linears.
std::vector<uint8_t> code_bytes(const BlockContext& context) {
  std::vector<uint8_t> bytes;
  for (const auto& linear : context.quantized) {
    const auto* data = reinterpret_cast<const uint8_t*>(linear->qweight.data());
    bytes.insert(bytes.end(), data, data + linear->qweight.bytes());
  }
  return bytes;
}

/// Weighted error of the quantized block on every eighth window.
double held_out_error(const PassRun& run) {
  const at::Tensor x = run.x.slice(0, 7, {}, 8);
  const Block& exact = run.model.blocks[0];
  return weighted_error(block_forward(run.model.spec, run.context->block,
                                      fake_quant_linears(run.context->quantized, at::kCPU), x),
                        block_forward(run.model.spec, exact, float_linears(exact), x))
      .item<double>();
}

TEST(Tuning, StartsAndEndsAtTheIntegerBlock) {
  for (const LinearScheme& scheme :
       {kPerOutput, kGroups, kZeroPoints, kOutputZero, kStatic, kRealZero, kWeightsOnly}) {
    SchemeRun run(scheme, {.kv_heads = 2, .biases = true});
    if (scheme.weight.group_size == 0) {
      const OutlierSplit split = split_outliers(at::rand({64}), 16);
      for (LinearRole role : {kQ, kK, kV}) run.context->split[run.model.spec.id(role)] = split;
    }
    run.run({kRtn});
    const double before = held_out_error(run);
    run.run({kRtn, kTune});
    const nlohmann::json& report = run.context->report["tune"];
    EXPECT_NEAR(report["loss_before"].get<double>(), before, 1e-3 * before) << to_string(scheme);
    const double after = held_out_error(run);
    EXPECT_NEAR(report["loss_after"].get<double>(), after, 1e-3 * after) << to_string(scheme);
    EXPECT_LT(after, before) << to_string(scheme);
    EXPECT_TRUE(report["kept"].get<bool>());
  }
}

/// GPTQ leaves little to gain on random weights.
TEST(Tuning, IsNoWorseBehindGptqInEveryFamily) {
  for (const TestModelOptions& family : kTestFamilies) {
    SchemeRun before(kGroups, family), after(kGroups, family);
    before.run({kGptq});
    after.run({kGptq, kTune});
    EXPECT_LE(held_out_error(after), held_out_error(before));
  }
}

TEST(Tuning, StaysOnTheGridAndMovesCodesByOne) {
  for (const LinearScheme& scheme : {kPerOutput, kGroups, kZeroPoints, kOutputZero}) {
    SchemeRun before(scheme), after(scheme);
    before.run({kRtn});
    after.run({kRtn, kTune});
    for (LinearId id : before.model.spec.linear_ids()) {
      const QuantizedLinear &old = *before.context->quantized[id], &tuned = *after.context->quantized[id];
      EXPECT_NO_THROW(tuned.validate("test"));
      EXPECT_LE((codes_of(tuned) - codes_of(old)).abs().max().item<int>(), 1);
      const WeightGrid old_grid = grid_of(old), grid = grid_of(tuned);
      const GridCells cells = grid.cells();
      const at::Tensor codes = codes_of(tuned).to(at::kFloat).view({old.n, cells.lo.size(1), -1});
      EXPECT_TRUE((codes >= cells.lo.unsqueeze(2)).all().item<bool>());
      EXPECT_TRUE((codes <= cells.hi.unsqueeze(2)).all().item<bool>());
      const auto same = [](const at::Tensor& a, const at::Tensor& b) {
        return !a.defined() || at::equal(a, b);
      };
      EXPECT_TRUE(at::equal(grid.scale, old_grid.scale));
      EXPECT_TRUE(same(grid.group_scale, old_grid.group_scale));
      EXPECT_TRUE(same(grid.zero, old_grid.zero));
    }
  }
}

TEST(Tuning, IsTheSameForASeed) {
  SchemeRun first(kGroups), second(kGroups), other(kGroups);
  nlohmann::json tune = kTune, reseeded = kTune;
  reseeded["seed"] = 5;
  first.run({kGptq, tune});
  second.run({kGptq, tune});
  other.run({kGptq, reseeded});
  EXPECT_EQ(code_bytes(*first.context), code_bytes(*second.context));
  EXPECT_NE(code_bytes(*first.context), code_bytes(*other.context));
}

TEST(Tuning, LeavesBlocksAloneThatItWouldHarm) {
  SchemeRun before(kGroups), after(kGroups);
  before.run({kGptq});
  after.run({kGptq, {{"pass", "tune"}, {"steps", 1}, {"learning_rate", 1.0}}});
  EXPECT_FALSE(after.context->report["tune"]["kept"].get<bool>());
  EXPECT_EQ(after.context->report["tune"]["loss_before"], after.context->report["tune"]["loss_after"]);
  EXPECT_EQ(code_bytes(*before.context), code_bytes(*after.context));
}

TEST(Tuning, LeavesEightBitCodesAlone) {
  const LinearScheme eight_bits{{8, 0}, {}};
  SchemeRun before(eight_bits), after(eight_bits);
  before.run({kRtn});
  after.run({kRtn, kTune});
  EXPECT_EQ(code_bytes(*before.context), code_bytes(*after.context));
}

TEST(Tuning, RefusesWhatItCannotTune) {
  const ModelSpec spec = test_spec({});
  const PerLinear<LinearScheme> schemes(spec.linears.size());
  const auto check = [&](const std::vector<nlohmann::json>& steps) {
    std::vector<std::unique_ptr<Pass>> earlier;
    for (const nlohmann::json& step : steps) earlier.push_back(make_pass(step));
    make_pass(kTune)->check({spec, schemes, earlier});
  };
  EXPECT_NO_THROW(check({{{"pass", "smooth"}}, kGptq}));
  expect_error([&] { check({{{"pass", "smooth"}}}); }, "put it behind rtn or gptq");
  expect_error([&] { check({{{"pass", "reassemble"}}, kRtn}); }, "which reassemble changes");
  expect_error([&] { check({{{"pass", "correct"}}, kRtn}); }, "which correct changes");
  expect_error([&] { check({{{"pass", "gptq"}, {"sparse", "all"}}}); }, "zeros of 2:4 sparse weights");
}

}  // namespace
}  // namespace tessera
