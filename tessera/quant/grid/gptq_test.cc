// GPTQ's properties: exactness without correlation, never worse than rounding, natural order, dead columns.
#include "tessera/quant/grid/gptq.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

struct Problem {
  at::Tensor weight, hessian;
};

/// Correlated inputs with a few loud channels.
Problem correlated(int64_t n, int64_t k, int64_t tokens) {
  at::manual_seed(11);
  const at::Tensor mix = at::randn({k, k}) / std::sqrt(static_cast<double>(k)) + at::eye(k);
  const at::Tensor x = at::matmul(at::randn({tokens, k}), mix) * at::exp(at::randn({k}));
  return {at::randn({n, k}), at::matmul(x.t(), x) * (2.0 / static_cast<double>(tokens))};
}

double output_loss(const Problem& problem, const WeightGrid& grid, const at::Tensor& codes) {
  const at::Tensor d = (problem.weight - dequantize(grid, codes)).to(at::kDouble);
  return (at::matmul(d, problem.hessian.to(at::kDouble)) * d).sum().item<double>();
}

const WeightScheme kSchemes[] = {{8, 0}, {4, 0}, {4, 32}, {4, 128}};

TEST(Gptq, T5_IsotropicHessianIsRtn) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({40, 256});
  for (const WeightScheme& scheme : kSchemes) {
    const WeightGrid grid = fit_grid(weight, scheme, {});
    const auto factor = factor_hessian(at::eye(256) * 3, 0.01, true);
    ASSERT_TRUE(factor);
    EXPECT_TRUE(at::equal(gptq(weight, grid, *factor).codes, round_to_grid(grid, weight)));
  }
}

TEST(Gptq, T6_NeverWorseThanRounding) {
  const Problem problem = correlated(64, 256, 2000);
  for (const WeightScheme& scheme : kSchemes) {
    const WeightGrid grid = fit_grid(problem.weight, scheme, {});
    const double rounding = output_loss(problem, grid, round_to_grid(grid, problem.weight));
    for (const bool act_order : {false, true}) {
      const auto factor = factor_hessian(problem.hessian, 0.01, act_order);
      const GptqResult result = gptq(problem.weight, grid, *factor);
      EXPECT_LT(output_loss(problem, grid, result.codes), 0.8 * rounding);
      // The columns' losses add up to the error under the Hessian that was factored, the damped one.
      Problem damped{problem.weight, problem.hessian.clone()};
      damped.hessian.diagonal().add_(0.01 * problem.hessian.diagonal().mean());
      const double exact = output_loss(damped, grid, result.codes);
      EXPECT_NEAR(result.loss * 2, exact, 1e-3 * exact);
    }
  }
}

/// With a diagonal Hessian the order of columns cannot matter: any permutation error in codes or groups would
/// show.
TEST(Gptq, T7_ActOrderKeepsNaturalColumnsAndStaticGroups) {
  at::manual_seed(2);
  const at::Tensor weight = at::randn({16, 128});
  const WeightGrid grid = fit_grid(weight, {4, 32}, {});
  const auto factor = factor_hessian(at::diag(at::rand({128}) + 0.1), 0.01, true);
  EXPECT_FALSE(at::equal(factor->order, at::arange(128)));
  EXPECT_TRUE(at::equal(gptq(weight, grid, *factor).codes, round_to_grid(grid, weight)));
}

TEST(Gptq, T8_DeadColumnsAndZeroRows) {
  Problem problem = correlated(8, 128, 500);
  problem.weight[3].zero_();
  problem.hessian[5].zero_();
  problem.hessian.select(1, 5).zero_();
  for (const WeightScheme& scheme : kSchemes) {
    const WeightGrid grid = fit_grid(problem.weight, scheme, {});
    const auto factor = factor_hessian(problem.hessian, 0.01, true);
    ASSERT_TRUE(factor);
    const GptqResult result = gptq(problem.weight, grid, *factor);
    EXPECT_TRUE(std::isfinite(result.loss));
    EXPECT_EQ(result.codes.select(1, 5).abs().max().item<int>(), 0);
    EXPECT_EQ(result.codes[3].abs().max().item<int>(), 0);
  }
  const auto silent = factor_hessian(at::zeros({128, 128}), 0.01, true);
  ASSERT_TRUE(silent);
  EXPECT_EQ(gptq(problem.weight, fit_grid(problem.weight, {4, 0}, {}), *silent).codes.abs().max().item<int>(),
            0);
}

TEST(Gptq, T9_BlockSizesAgree) {
  const Problem problem = correlated(32, 200, 1000);
  const WeightGrid grid = fit_grid(problem.weight, {4, 0}, {});
  const auto factor = factor_hessian(problem.hessian, 0.01, true);
  const double reference = output_loss(problem, grid, gptq(problem.weight, grid, *factor, {1}).codes);
  for (const int64_t block : {32, 128, 1000}) {
    const GptqResult result = gptq(problem.weight, grid, *factor, {block});
    EXPECT_NEAR(output_loss(problem, grid, result.codes), reference, 0.02 * reference) << block;
  }
}

TEST(Gptq, FactorInvertsTheDampedHessian) {
  const Problem problem = correlated(1, 96, 400);
  const auto factor = factor_hessian(problem.hessian, 0.01, true);
  at::Tensor damped = problem.hessian.to(at::kDouble);
  damped.diagonal().add_(damped.diagonal().mean() * 0.01);
  damped = damped.index_select(0, factor->order).index_select(1, factor->order);
  const at::Tensor u = factor->upper.to(at::kDouble);
  const at::Tensor product = at::matmul(at::matmul(u.t(), u), damped);
  EXPECT_LT((product - at::eye(96, at::kDouble)).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(at::equal(u, at::triu(u)));
  const at::Tensor diagonal = problem.hessian.diagonal().index_select(0, factor->order);
  EXPECT_TRUE((diagonal.slice(0, 1) <= diagonal.slice(0, 0, 95)).all().item<bool>());
}

TEST(Gptq, DampingGrowsThenGivesUp) {
  at::manual_seed(3);
  const at::Tensor basis = at::randn({64, 64});
  at::Tensor indefinite = at::matmul(basis, basis.t());
  indefinite.sub_(at::eye(64) * (0.5 * indefinite.diagonal().mean()));
  const auto factor = factor_hessian(indefinite, 0.01, true);
  ASSERT_TRUE(factor);
  EXPECT_GE(factor->damping, 0.0999);
  EXPECT_FALSE(factor_hessian(indefinite - at::eye(64) * 1e4, 0.01, true));
  EXPECT_FALSE(factor_hessian(at::full({8, 8}, std::numeric_limits<float>::quiet_NaN()), 0.01, true));
}

}  // namespace
}  // namespace tessera
