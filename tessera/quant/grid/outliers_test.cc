// Outlier selection and GPTQ around outlier columns ("QUIK").
#include "tessera/quant/grid/outliers.h"

#include <gtest/gtest.h>

#include "tessera/format/reference.h"
#include "tessera/quant/grid/gptq.h"

namespace tessera {
namespace {

TEST(OutlierCount, FollowsThePaperOnItsModels) {
  const OutlierRule rule;
  EXPECT_EQ(outlier_count(rule, 4096, 4096, 0), 256);
  EXPECT_EQ(outlier_count(rule, 4544, 4544, 0), 256);
  EXPECT_EQ(outlier_count(rule, 11008, 4096, 0), 704);
  EXPECT_EQ(outlier_count(rule, 13824, 5120, 0), 704);
  EXPECT_EQ(outlier_count(rule, 28672, 8192, 0), 896);
  EXPECT_EQ(outlier_count(rule, 18176, 4544, 0), 1024);
}

TEST(OutlierCount, StaysSmallAndAlignedInSmallModels) {
  for (const int64_t hidden : {64, 256, 512, 768, 1024}) {
    for (const int64_t width : {hidden, 11 * hidden / 4}) {
      const int64_t count = outlier_count({}, width, hidden, 0);
      EXPECT_LE(count, width / 4);
      EXPECT_EQ((width - count) % 16, 0);
    }
  }
  EXPECT_EQ(outlier_count({}, 512, 512, 0), 32);
  EXPECT_EQ((1408 - outlier_count({}, 1408, 512, 128)) % 128, 0) << "groups divide what is left";
  EXPECT_EQ(outlier_count({.count = 0}, 4096, 4096, 0), 0);
}

TEST(OutlierSplit, T2_T3_PartitionsByMagnitudeWithStableTies) {
  const at::Tensor absmax = at::tensor({3.0f, 9.0f, 1.0f, 3.0f, 3.0f, 0.0f});
  const OutlierSplit split = split_outliers(absmax, 2);
  EXPECT_TRUE(at::equal(split.outliers(), at::tensor({1, 4}, at::kLong))) << "of equals the last is loudest";
  EXPECT_TRUE(at::equal(split.base_columns(absmax), at::tensor({3.0f, 1.0f, 3.0f, 0.0f})));
  EXPECT_TRUE(at::equal(std::get<0>(at::sort(split.order)), at::arange(6)));
  EXPECT_TRUE(split_outliers(absmax, 0).base_columns(absmax).is_same(absmax));
}

struct Problem {
  at::Tensor x, weight, hessian;
  OutlierSplit split;

  double error(const WeightGrid& grid, const at::Tensor& codes, const at::Tensor& outlier_weight) const {
    at::Tensor rounded = at::empty_like(weight);
    rounded.index_copy_(1, split.base_columns(at::arange(weight.size(1))), dequantize(grid, codes));
    if (split.count > 0) rounded.index_copy_(1, split.outliers(), outlier_weight);
    return at::matmul(x, (weight - rounded).t()).norm().item<double>();
  }
  at::Tensor base() const { return split.base_columns(weight); }
};

/// Correlated inputs, a few of them loud.
Problem planted(int64_t outliers, int64_t n = 24, int64_t k = 96) {
  at::manual_seed(8);
  Problem p;
  p.x = at::matmul(at::randn({600, k}), at::randn({k, k}) / 10 + at::eye(k));
  for (const int64_t loud : {7, 40, 41, 90}) p.x.select(1, loud).mul_(40);
  p.weight = at::randn({n, k});
  p.hessian = at::matmul(p.x.t(), p.x) * (2.0 / 600);
  p.split = split_outliers(std::get<0>(p.x.abs().max(0)), outliers);
  return p;
}

GptqResult solve(const Problem& p, const WeightGrid& grid, bool act_order = false, GptqOptions options = {}) {
  return gptq(p.weight, grid, *factor_hessian(p.hessian, 0.01, act_order, p.split), options);
}

TEST(GptqOutliers, T5_AllColumnsOutliersChangesNothing) {
  const Problem p = planted(96);
  const GptqResult result = solve(p, {{4, 0}, at::ones({24}), {}, {}});
  EXPECT_TRUE(at::equal(result.outlier_weight, p.weight));
  EXPECT_EQ(result.codes.numel(), 0);
}

TEST(GptqOutliers, T6_IsotropicHessianLeavesOutliersAlone) {
  Problem p = planted(8);
  p.hessian = at::eye(96);
  const WeightGrid grid = fit_grid(p.base(), {4, 0}, {});
  const GptqResult result = solve(p, grid);
  EXPECT_TRUE(at::equal(result.codes, round_to_grid(grid, p.base())));
  EXPECT_TRUE(at::equal(result.outlier_weight, p.weight.index_select(1, p.split.outliers())));
}

TEST(GptqOutliers, T7_T8_OutliersAbsorbErrorsButDecideNothing) {
  Problem p = planted(8);
  const WeightGrid grid = fit_grid(p.base(), {4, 0}, {});
  const GptqResult result = solve(p, grid);
  EXPECT_FALSE(at::allclose(result.outlier_weight, p.weight.index_select(1, p.split.outliers())));
  EXPECT_LE(result.codes.abs().max().item<int>(), 8);
  p.weight.index_fill_(1, p.split.outliers(), 123);
  EXPECT_TRUE(at::equal(solve(p, grid).codes, result.codes));
}

TEST(GptqOutliers, T9_BeatsRoundingAndGainsFromOutliers) {
  const Problem p = planted(8), none = planted(0);
  const WeightGrid grid = fit_grid(p.base(), {4, 0}, {}), all = fit_grid(none.weight, {4, 0}, {});
  const double rounded =
      p.error(grid, round_to_grid(grid, p.base()), p.weight.index_select(1, p.split.outliers()));
  for (const bool act_order : {false, true}) {
    const GptqResult result = solve(p, grid, act_order), without = solve(none, all, act_order);
    const double error = p.error(grid, result.codes, result.outlier_weight);
    EXPECT_LT(error, rounded);
    EXPECT_LT(error, none.error(all, without.codes, {}));
  }
}

TEST(GptqOutliers, T11_BlocksEndAtAnyBoundary) {
  for (const int64_t outliers : {1, 5, 32}) {
    const Problem p = planted(outliers);
    const WeightGrid grid = fit_grid(p.base(), {4, 0}, {});
    const GptqResult whole = solve(p, grid, false, {1000});
    for (const int64_t block : {1, 32, 40}) {
      const GptqResult result = solve(p, grid, false, {block});
      const double reference = p.error(grid, whole.codes, whole.outlier_weight);
      EXPECT_NEAR(p.error(grid, result.codes, result.outlier_weight), reference, 0.02 * reference);
    }
  }
}

TEST(GptqOutliers, DeadOutliersKeepTheirWeights) {
  Problem p = planted(8);
  const int64_t dead = p.split.outliers()[0].item<int64_t>();
  p.hessian[dead].zero_();
  p.hessian.select(1, dead).zero_();
  const GptqResult result = solve(p, fit_grid(p.base(), {4, 0}, {}));
  EXPECT_TRUE(at::allclose(result.outlier_weight.select(1, 0), p.weight.select(1, dead)));
}

TEST(GptqSparse, T26_TwoOfFourAreZeroAndCostLessThanPruningAfterwards) {
  const Problem p = planted(8);
  const WeightGrid grid = fit_grid(p.base(), {4, 0}, {});
  const GptqResult sparse = solve(p, grid, false, {.sparse = true}), dense = solve(p, grid);
  const at::Tensor zeros = (sparse.codes == 0).view({24, -1, 4}).sum({2});
  EXPECT_GE(zeros.min().item<int64_t>(), 2);
  // Back to natural columns; then the same number of zeros by magnitude in the dense result.
  const at::Tensor rank = at::argsort(at::argsort(p.split.order.narrow(0, 0, 88)));
  const at::Tensor natural = at::empty_like(sparse.codes).index_copy_(1, rank, sparse.codes);
  const at::Tensor ordered = dense.codes.index_select(1, rank).view({24, -1, 4});
  const at::Tensor keep = at::zeros_like(ordered).scatter_(2, std::get<1>(ordered.abs().topk(2, 2)),
                                                           at::ones_like(ordered).narrow(2, 0, 2));
  const at::Tensor pruned = at::empty_like(natural).index_copy_(1, rank, (ordered * keep).view({24, 88}));
  EXPECT_LT(p.error(grid, natural, sparse.outlier_weight), p.error(grid, pruned, dense.outlier_weight));
}

TEST(AttachOutliers, RoundsToHalfAndValidates) {
  const Problem p = planted(8);
  const WeightGrid grid = fit_grid(p.base(), {4, 0}, {});
  const GptqResult result = solve(p, grid);
  QuantizedLinear linear = make_quantized_linear(grid, result.codes, {4, false, true}, {});
  attach_outliers(linear, p.split.outliers(), result.outlier_weight);
  EXPECT_NO_THROW(linear.validate("test"));
  EXPECT_EQ(linear.k_in(), 96);
  const at::Tensor halves = result.outlier_weight.to(at::kHalf).to(at::kFloat);
  for (int64_t i = 0; i < halves.numel(); ++i) {
    ASSERT_EQ(to_float(linear.outlier_weight.as<Half>()[static_cast<size_t>(i)]),
              halves.data_ptr<float>()[i]);
  }
}

}  // namespace
}  // namespace tessera
