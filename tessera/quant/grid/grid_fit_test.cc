// Properties of the two-phase search ("DGQ"): its losses, invariants, and an independent slow implementation.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "tessera/format/reference.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

constexpr int64_t kGroup = 128;
const WeightScheme kDgq{4, kGroup, /*symmetric=*/false};
const GridOptions kSearch{.clip = Clip::kOutput}, kRounded{.clip = Clip::kOutput, .search = false};

struct Layer {
  at::Tensor weight, x;

  InputMoments moments() const {
    return {{}, at::matmul(x.t(), x) * (2.0 / static_cast<double>(x.size(0))), {}};
  }
  /// Mean square of the error of each output.
  at::Tensor loss(const at::Tensor& rounded) const {
    const at::Tensor error = at::matmul((weight - rounded).to(at::kDouble), x.t().to(at::kDouble));
    return error.square().mean({1}) * 2;
  }
  at::Tensor loss(const WeightGrid& grid) const { return loss(fake_quantize_weight(grid, weight)); }
  WeightGrid fit(const GridOptions& options, const WeightScheme& scheme = kDgq) const {
    return fit_grid(weight, scheme, options, moments());
  }
  at::Tensor group_wise(GroupScales scales = GroupScales::kFloat) const {
    return round_group_wise(weight, kDgq, scales, Clip::kOutput, moments());
  }
};

enum class Weights { kGaussian, kHeavyTails, kOutliers };

/// Inputs with one loud channel in a hundred; weights Gaussian, Student-t(4), or the latter with one weight
/// of 20 sigma an output.
Layer make_layer(Weights kind, int64_t n = 48, int64_t k = 512, int64_t tokens = 300) {
  at::manual_seed(17);
  Layer layer{at::randn({n, k}), at::randn({tokens, k})};
  for (int64_t channel = 7; channel < k; channel += 100) layer.x.select(1, channel).mul_(8);
  if (kind != Weights::kGaussian) layer.weight.div_((at::randn({4, n, k}).square().mean({0})).sqrt());
  if (kind == Weights::kOutliers) {
    for (int64_t output = 0; output < n; ++output) layer.weight[output][(output * 37) % k] = 20;
  }
  return layer;
}

const Weights kAllWeights[] = {Weights::kGaussian, Weights::kHeavyTails, Weights::kOutliers};

TEST(GridFit, D4_ClippedGroupsLoseNoMoreThanMinMax) {
  for (const Weights kind : kAllWeights) {
    const Layer layer = make_layer(kind, 48, kGroup);
    const WeightScheme per_output{4, 0, false};
    const at::Tensor clipped = layer.loss(layer.fit(kSearch, per_output)),
                     full = layer.loss(layer.fit({}, per_output));
    EXPECT_TRUE((clipped <= full * (1 + 1e-5)).all().item<bool>());
    EXPECT_LT(clipped.sum().item<double>(), 0.98 * full.sum().item<double>());
  }
}

TEST(GridFit, D5_SearchNeverLosesToRoundedScalesAndComesNearFloatScales) {
  for (const Weights kind : kAllWeights) {
    const Layer layer = make_layer(kind);
    const at::Tensor searched = layer.loss(layer.fit(kSearch)), rounded = layer.loss(layer.fit(kRounded)),
                     floats = layer.loss(layer.group_wise());
    EXPECT_TRUE((searched <= rounded * (1 + 1e-5)).all().item<bool>());
    const double ratio = (searched.sum() / floats.sum()).item<double>();
    EXPECT_LE(ratio, kind == Weights::kOutliers ? 1.10 : 1.05);
    EXPECT_GT((rounded.sum() / floats.sum()).item<double>(), ratio * 1.02) << "rounding costs something";
  }
}

/// Scales that round up under codes that stay push the largest weights of heavy tails past int8.
TEST(GridFit, WrappedScalesLoseMuchMore) {
  for (const Weights kind : {Weights::kHeavyTails, Weights::kOutliers}) {
    const Layer layer = make_layer(kind);
    const double wrapped = layer.loss(layer.group_wise(GroupScales::kWrapped)).sum().item<double>();
    EXPECT_GT(wrapped, 3 * layer.loss(layer.fit(kSearch)).sum().item<double>());
  }
}

TEST(GridFit, D6_Invariants) {
  for (const int64_t group : {128, 64, 32}) {
    for (const Weights kind : kAllWeights) {
      const Layer layer = make_layer(kind, 21, 256, 200);
      const WeightGrid grid = layer.fit(kSearch, {4, group, false});
      const at::Tensor codes = round_to_grid(grid, layer.weight);
      const at::Tensor u = codes.view({21, 256 / group, group}) + grid.zero.to(at::kChar).unsqueeze(2);
      EXPECT_TRUE(((u >= 0) & (u <= 15)).all().item<bool>());
      EXPECT_TRUE(((grid.group_scale >= 1) & (grid.group_scale <= 127)).all().item<bool>());
      EXPECT_TRUE(at::equal(grid.group_scale, grid.group_scale.round()));
      EXPECT_TRUE(((grid.zero >= 0) & (grid.zero <= 15)).all().item<bool>());
      const at::Tensor w8 = codes.view({21, 256 / group, group}) * grid.group_scale.unsqueeze(2);
      EXPECT_LE(w8.abs().max().item<float>(), 127);
      EXPECT_TRUE((at::isfinite(grid.scale) & (grid.scale > 0)).all().item<bool>());
      const QuantizedLinear linear = make_quantized_linear(grid, codes, {}, {});
      EXPECT_NO_THROW(linear.validate("test"));
      EXPECT_EQ(linear.group_zero.shape(), (Shape{21, 256 / group}));
    }
  }
}

/// Groups that use codes 0 and 15 of a grid: phase 1 finds it.
TEST(GridFit, D7_RepresentableGroupsLoseNothing) {
  at::manual_seed(5);
  const int64_t n = 6;
  const at::Tensor zero = at::tensor({7, 8, 6, 9}, at::kFloat), s2 = at::tensor({5, 3, 9, 7}, at::kFloat);
  at::Tensor u = at::randint(16, {n, zero.size(0), kGroup}).to(at::kFloat);
  u.select(2, 3).fill_(0);
  u.select(2, 77).fill_(15);
  const at::Tensor w8 = (u - zero.unsqueeze(1)) * s2.unsqueeze(1);
  const Layer layer{(w8 * 0.01).view({n, -1}), at::randn({300, 4 * kGroup})};
  EXPECT_TRUE(at::equal(layer.fit(kSearch).zero, zero.expand({n, 4})));
  const double loss = layer.loss(layer.group_wise()).sum().item<double>();
  EXPECT_LT(loss, 1e-9 * layer.loss(at::zeros_like(layer.weight)).sum().item<double>());
}

TEST(GridFit, D8_RowsAreIndependentAndPowersOfTwoOnlyScale) {
  const Layer layer =
      make_layer(Weights::kHeavyTails, 530, 256, 200);  // more outputs than are fitted at once
  const WeightGrid grid = layer.fit(kSearch);
  const Layer scaled{layer.weight * 0.25, layer.x};
  const WeightGrid quarter = scaled.fit(kSearch);
  EXPECT_TRUE(at::equal(quarter.scale, grid.scale * 0.25));
  EXPECT_TRUE(at::equal(quarter.group_scale, grid.group_scale));
  EXPECT_TRUE(at::equal(quarter.zero, grid.zero));
  const at::Tensor order = at::randperm(530);
  const Layer permuted{layer.weight.index_select(0, order), layer.x};
  const WeightGrid shuffled = permuted.fit(kSearch);
  EXPECT_TRUE(at::equal(shuffled.scale, grid.scale.index_select(0, order)));
  EXPECT_TRUE(at::equal(shuffled.group_scale, grid.group_scale.index_select(0, order)));
}

TEST(GridFit, D9_MomentsGiveTheTokensLoss) {
  const Layer layer = make_layer(Weights::kGaussian, 9, 256, 64);
  const at::Tensor noisy = layer.x + at::randn_like(layer.x) * 0.3;
  const double scale = 2.0 / 64;
  const InputMoments quantized{
      {}, at::matmul(noisy.t(), noisy) * scale, at::matmul(noisy.t(), noisy - layer.x) * scale};
  for (const bool cross : {false, true}) {
    const GridLoss loss(Clip::kOutput, layer.weight, 2, cross ? quantized : layer.moments());
    const at::Tensor input = cross ? noisy : layer.x;
    const auto brute_force = [&](const at::Tensor& step) {
      const at::Tensor steps = step.repeat_interleave(kGroup, 1);
      const at::Tensor rounded = (layer.weight / steps).round().clamp(-8, 7) * steps;
      const at::Tensor error = at::matmul(layer.weight, layer.x.t()) - at::matmul(rounded, input.t());
      return error.square().sum(1) * scale;
    };
    const at::Tensor fine = at::full({9, 2}, 0.3), coarse = at::full({9, 2}, 0.6),
                     lo = at::full({9, 2}, -8.0f), hi = at::full({9, 2}, 7.0f);
    const at::Tensor difference = loss.by_row({coarse.unsqueeze(0), lo, hi})[0] -
                                  loss.by_row({fine.unsqueeze(0), lo, hi})[0],
                     expected = brute_force(coarse) - brute_force(fine);
    EXPECT_TRUE(at::allclose(difference, expected, 1e-3, 1e-3)) << difference << expected;
    if (cross) continue;
    EXPECT_TRUE(at::allclose(loss.by_row({fine.unsqueeze(0), lo, hi})[0], brute_force(fine), 1e-4, 1e-4));
    EXPECT_TRUE(loss.groups_interact());
  }
}

/// One output, one candidate after the other, from the tokens.
struct SlowFit {
  const double* w;
  const at::Tensor& x;  ///< [T, K] double
  int64_t k;

  double token_loss(const std::vector<double>& error, int64_t begin) const {
    const at::Tensor e = at::tensor(error, at::kDouble);
    return at::mv(x.narrow(1, begin, static_cast<int64_t>(error.size())), e).square().sum().item<double>();
  }
  static double code(double value, double step, double lo, double hi) {
    return std::clamp(std::nearbyint(value / step), lo, hi);
  }
  void fit(double& scale, std::vector<double>& integers, std::vector<double>& zeros) const {
    std::vector<double> steps;
    for (int64_t begin = 0; begin < k; begin += kGroup) {
      const auto [least, largest] = std::minmax_element(w + begin, w + begin + kGroup);
      const double full = (std::max(0.0, *largest) - std::min(0.0, *least)) / 15;
      const double zero = std::nearbyint(-std::min(0.0, *least) / full);
      double best = INFINITY, step = 0;
      for (int i = 0; i <= 20; ++i) {
        const double candidate = full * (i == 0 ? 1 : 1.02 - 0.011 * i);
        std::vector<double> error;
        for (int64_t j = begin; j < begin + kGroup; ++j) {
          error.push_back(w[j] - candidate * code(w[j], candidate, -zero, 15 - zero));
        }
        const double loss = token_loss(error, begin);
        if (loss < best) best = loss, step = candidate;
      }
      steps.push_back(step);
      zeros.push_back(zero);
    }
    const double unit =
        std::abs(*std::max_element(w, w + k, [](double a, double b) { return std::abs(a) < std::abs(b); })) /
        127;
    double best = INFINITY;
    for (int i = 0; i <= 80; ++i) {
      const double candidate = unit * (i == 0 ? 1 : 1.02 - 0.01025 * i);
      std::vector<double> error, group_scale;
      for (int64_t j = 0; j < k; ++j) {
        const auto g = static_cast<size_t>(j / kGroup);
        const double integer = std::clamp(std::nearbyint(steps[g] / candidate), 1.0, 127.0);
        const double reach = std::floor(127 / integer);
        if (j % kGroup == 0) group_scale.push_back(integer);
        error.push_back(w[j] - candidate * integer *
                                   code(w[j], candidate * integer, std::max(-zeros[g], -reach),
                                        std::min(15 - zeros[g], reach)));
      }
      const double loss = token_loss(error, 0);
      if (loss < best) best = loss, scale = candidate, integers = group_scale;
    }
  }
};

TEST(GridFit, D10_EqualsASlowImplementationChoiceForChoice) {
  const Layer layer = make_layer(Weights::kHeavyTails, 12, 384, 150);
  GridOptions options = kSearch;
  options.rerank = 81;  // all by the error of the whole output
  const WeightGrid grid = layer.fit(options);
  const at::Tensor w = layer.weight.to(at::kDouble).contiguous(), x = layer.x.to(at::kDouble);
  for (int64_t n = 0; n < 12; ++n) {
    double scale = 0;
    std::vector<double> integers, zeros;
    SlowFit{w.data_ptr<double>() + n * 384, x, 384}.fit(scale, integers, zeros);
    EXPECT_NEAR(grid.scale[n].item<double>(), scale, 1e-6 * scale) << n;
    for (int64_t g = 0; g < 3; ++g) {
      EXPECT_EQ(grid.group_scale[n][g].item<double>(), integers[static_cast<size_t>(g)]) << n;
      EXPECT_EQ(grid.zero[n][g].item<double>(), zeros[static_cast<size_t>(g)]) << n;
    }
  }
}

TEST(GridFit, RerankingAFewCandidatesIsNearlyTheWholeSearch) {
  const Layer layer = make_layer(Weights::kHeavyTails);
  GridOptions all = kSearch;
  all.rerank = 81;
  EXPECT_LT(layer.loss(layer.fit(kSearch)).sum().item<double>(),
            1.01 * layer.loss(layer.fit(all)).sum().item<double>());
}

TEST(GridFit, D16_ZeroRowsAndSilentInputs) {
  Layer layer = make_layer(Weights::kGaussian, 5, 256, 100);
  layer.weight[1].zero_();
  layer.weight[2].narrow(0, 0, kGroup).zero_();
  layer.weight[3].abs_();
  layer.x.narrow(1, 40, 30).zero_();
  for (const GridOptions& options : {kSearch, kRounded, GridOptions{}}) {
    const WeightGrid grid = layer.fit(options);
    EXPECT_EQ(grid.scale[1].item<float>(), 1);
    EXPECT_EQ(grid.group_scale[1].max().item<float>(), 1);
    EXPECT_EQ(grid.group_scale[2][0].item<float>(), 1);
    EXPECT_EQ(grid.zero[3].max().item<float>(), 0);
    const at::Tensor codes = round_to_grid(grid, layer.weight);
    EXPECT_EQ(codes[1].abs().max().item<int>(), 0);
    EXPECT_NO_THROW(make_quantized_linear(grid, codes, {}, {}).validate("test"));
  }
}

/// The integer layer holds the asymmetric grid exactly.
TEST(GridFit, D14_IntegerLayerHoldsTheGrid) {
  const Layer layer = make_layer(Weights::kOutliers, 13, 256, 100);
  for (const WeightScheme& scheme : {WeightScheme{4, 64, false}, WeightScheme{4, 0, false}}) {
    const WeightGrid grid = layer.fit(kSearch, scheme);
    const at::Tensor codes = round_to_grid(grid, layer.weight);
    const QuantizedLinear linear = make_quantized_linear(grid, codes, {8, false, true}, {});
    EXPECT_NO_THROW(linear.validate("test"));
    const std::vector<float> real = dequantize(linear);
    EXPECT_TRUE(at::equal(at::tensor(at::ArrayRef<float>(real.data(), real.size())),
                          dequantize(grid, codes).view({-1})));
  }
}

/// Significant bits of a positive float.
int significant_bits(float x) {
  int exponent = 0;
  const auto significand = static_cast<uint32_t>(std::ldexp(std::frexp(x, &exponent), 24));
  return 24 - std::countr_zero(significand);
}

int most_bits(const at::Tensor& x) {
  const auto values = std::span(x.data_ptr<float>(), static_cast<size_t>(x.numel()));
  return significant_bits(
      *std::ranges::max_element(values, {}, [](float value) { return significant_bits(value); }));
}

TEST(GridFit, ScalesHaveAsManyBitsAsTheyMay) {
  const Layer layer = make_layer(Weights::kHeavyTails, 16);
  for (const Clip clip : {Clip::kNone, Clip::kMse, Clip::kOutput}) {
    for (const int bits : {4, 7, 11, 23}) {
      const GridOptions few{.clip = clip, .scale_bits = bits}, all{.clip = clip};
      const WeightScheme per_output{4, 0, true};
      const at::Tensor scale = layer.fit(few, per_output).scale;
      EXPECT_EQ(most_bits(scale), bits);
      if (clip == Clip::kNone) {  // nothing is chosen: each is the nearest
        const at::Tensor change = (scale / layer.fit(all, per_output).scale - 1).abs();
        EXPECT_LE(change.max().item<double>(), std::ldexp(1.0, -bits));
      }
      EXPECT_EQ(most_bits(layer.fit(few).scale), bits) << "in groups";
    }
  }
  EXPECT_EQ(most_bits(layer.fit(kSearch).scale), 24);
}

/// What other tools store for a group is a float16 number.
TEST(GridFit, ProductsOfFewBitScalesAreHalves) {
  for (const Weights kind : kAllWeights) {
    const Layer layer = make_layer(kind, 16);
    for (const int bits : {7, 9}) {
      const WeightGrid grid = layer.fit({.clip = Clip::kOutput, .scale_bits = bits});
      EXPECT_EQ(most_bits(grid.group_scale), 11 - bits);
      EXPECT_LE(most_bits(grid.scale.unsqueeze(1) * grid.group_scale), 11);
      EXPECT_LE(grid.group_scale.max().item<float>(), 127);
      EXPECT_TRUE(at::equal(grid.group_scale, grid.group_scale.round()));
    }
    const WeightGrid usual = layer.fit({.clip = Clip::kOutput, .scale_bits = 0});
    EXPECT_TRUE(at::equal(usual.scale, layer.fit({.clip = Clip::kOutput, .scale_bits = 7}).scale));
    EXPECT_EQ(most_bits(layer.fit({.scale_bits = 0}, {4, 0, false}).scale), 11);
  }
}

}  // namespace
}  // namespace tessera
