// One token with nearly all energy must not decide what the others get: every search and objective, on a
// block whose first token is massive.
#include <gtest/gtest.h>

#include "tessera/quant/block/token_errors.h"
#include "tessera/quant/passes/massive_token.h"
#include "tessera/quant/passes/pass_run.h"

namespace tessera {
namespace {

/// A block of a random model, and windows of which a part is kept from the passes.
class MassiveToken : public testing::Test {
 protected:
  MassiveToken() {
    at::manual_seed(4);
    const int64_t hidden = model_.spec.hidden_size;
    x_ = at::matmul(at::randn({6, 256, 16}), at::randn({16, hidden})) + at::randn({6, 256, hidden});
    x_.select(1, 0).copy_(at::randn({hidden}));
    make_first_token_massive(model_.spec, model_.blocks[0], x_, /*activation=*/2000, /*size=*/40000);
  }

  /// Mean error of the tokens behind the first after `steps`, on the windows that the passes did not see.
  double error(const LinearScheme& scheme, const std::vector<nlohmann::json>& steps) {
    const ModelSpec& spec = model_.spec;
    BlockContext context(spec, 0, PerLinear<LinearScheme>(spec.linears.size(), scheme), model_.blocks[0],
                         reporter_);
    context.x_float = context.x_quant = x_.narrow(0, 0, 4);
    for (const nlohmann::json& step : steps) make_pass(step)->run_on_block(context);
    const at::Tensor unseen = x_.narrow(0, 4, 2);
    const at::Tensor output =
        block_forward(spec, context.block, fake_quant_linears(context.quantized, at::kCPU), unseen);
    return token_errors(output.slice(1, 1), output_of(unseen).slice(1, 1)).mean().item<double>();
  }

  at::Tensor output_of(const at::Tensor& x) const {
    return block_forward(model_.spec, model_.blocks[0], float_linears(model_.blocks[0]), x);
  }

  TestModel model_ = make_test_model({});
  at::Tensor x_;
  Reporter reporter_;
};

const nlohmann::json kRtn{{"pass", "rtn"}}, kGptq{{"pass", "gptq"}},
    kTune{{"pass", "tune"}, {"steps", 60}, {"batch", 1}},
    kDgq{{"pass", "rtn"}, {"clip", "output"}, {"search", true}};
const LinearScheme kGroups{{4, 32}, {}}, kZeroPoints{{4, 32, false}, {}},
    kFourBit{{4, 0, false}, {4, false, true}};

TEST_F(MassiveToken, HoldsNearlyAllEnergy) {
  const at::Tensor energy = output_of(x_).square().sum({2});
  EXPECT_GT((energy.select(1, 0).sum() / energy.sum()).item<double>(), 0.99);
}

TEST_F(MassiveToken, NoPartHarmsTheOtherTokens) {
  struct Case {
    LinearScheme scheme;
    nlohmann::json part, quantizer;
  };
  for (const Case& c :
       {Case{kGroups, {{"pass", "smooth"}}, kGptq}, Case{kGroups, {{"pass", "smooth"}}, kRtn},
        Case{kZeroPoints, {{"pass", "equalize"}}, kDgq}, Case{kFourBit, {{"pass", "reassemble"}}, kRtn}}) {
    const double with = error(c.scheme, {c.part, c.quantizer}), without = error(c.scheme, {c.quantizer});
    EXPECT_LT(with, 1.01 * without) << c.part << c.quantizer;
  }
}

TEST_F(MassiveToken, CalibratedWeightsBeatRoundedOnes) {
  EXPECT_LT(error(kGroups, {kGptq}), 0.7 * error(kGroups, {kRtn}));
  EXPECT_LT(error(kZeroPoints, {kDgq}), 0.85 * error(kZeroPoints, {kRtn}));
}

TEST_F(MassiveToken, TuningHelpsTheOtherTokens) {
  EXPECT_LT(error(kGroups, {kRtn, kTune}), 0.9 * error(kGroups, {kRtn}));
  EXPECT_LE(error(kZeroPoints, {kGptq, kTune}), error(kZeroPoints, {kGptq}));
}

}  // namespace
}  // namespace tessera
