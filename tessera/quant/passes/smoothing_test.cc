// Scales by rule, and the searches for sigma and the exponent.
#include "tessera/quant/passes/smoothing.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tessera {
namespace {

/// Best at sigma = 3, and where nothing is scaled the loss is finite.
double distance_from_three(const at::Tensor& absmax, const at::Tensor& scale) {
  const double sigma = (absmax / scale).max().item<double>();
  return std::fabs(std::log(sigma / 3));
}

TEST(Smoothing, T3_OnlyChannelsAboveSigmaAreScaled) {
  const at::Tensor absmax = at::tensor({0.5f, 1.0f, 3.5f, 4.0f, 100.0f});
  for (const bool linear : {false, true}) {
    const Smoothing best =
        search_smoothing(absmax, [&](const at::Tensor& scale) { return distance_from_three(absmax, scale); },
                         {.linear = linear});
    EXPECT_NEAR(best.parameter, 3, linear ? 0.5 : 0.2);
    EXPECT_LE(best.loss, best.unsmoothed_loss);
    for (int64_t j = 0; j < absmax.size(0); ++j) {
      const double channel = absmax[j].item<double>(), scale = best.scale[j].item<double>();
      EXPECT_GE(scale, 1);
      if (channel <= best.parameter) {
        EXPECT_EQ(scale, 1);
      } else {
        EXPECT_NEAR(scale, channel / best.parameter, 1e-5 * scale);
      }
    }
  }
}

TEST(Smoothing, T3_TiesKeepTheModelAsItIs) {
  const at::Tensor absmax = at::tensor({1.0f, 50.0f});
  const Smoothing best = search_smoothing(absmax, [](const at::Tensor&) { return 1.0; }, {});
  EXPECT_TRUE(at::equal(best.scale, at::ones({2})));
  EXPECT_EQ(best.parameter, 50);
}

TEST(Smoothing, T4_DegenerateInputs) {
  const auto loss = [](const at::Tensor& scale) {
    EXPECT_TRUE(at::isfinite(scale).all().item<bool>());
    return -scale.sum().item<double>();
  };
  for (const float value :
       {0.0f, 1e-30f, 0.05f, 7.0f}) {  // constant channels, below QQQ's floor of 0.1, zeros
    for (const bool linear : {false, true}) {
      const Smoothing best = search_smoothing(at::full({4}, value), loss, {.linear = linear});
      EXPECT_TRUE(at::isfinite(best.scale).all().item<bool>()) << value;
    }
  }
  const Smoothing dead = search_smoothing(at::tensor({0.0f, 2.0f, 0.01f}), loss, {});
  EXPECT_EQ(dead.scale[0].item<float>(), 1);
}

/// "DGQ", 4.1: the r-th largest maximum is the ceiling, r = int(0.005 K + 1.5).
TEST(PercentileScale, D2_LoudestChannelsComeDownToTheCeiling) {
  at::manual_seed(8);
  for (const auto& [k, rank] : {std::pair<int64_t, int64_t>{768, 5}, {4096, 21}, {5120, 27}, {11008, 56}}) {
    const at::Tensor absmax = at::rand({k}) + at::rand({k}).pow(40) * 50;
    const at::Tensor scale = percentile_scale(absmax, 0.005);
    EXPECT_EQ((scale > 1).sum().item<int64_t>(), rank - 1);
    const at::Tensor after = absmax / scale;
    const double ceiling = std::get<0>(absmax.sort(0, true))[rank - 1].item<double>();
    EXPECT_NEAR(after.max().item<double>(), ceiling, 1e-6 * ceiling);
    // D3: once more changes nothing.
    EXPECT_TRUE(at::allclose(percentile_scale(after, 0.005), at::ones({k}), 1e-6, 1e-6));
  }
}

TEST(PercentileScale, D2_SilentSitesStay) {
  EXPECT_TRUE(at::equal(percentile_scale(at::full({64}, 9e-5), 0.005), at::ones({64})));
  EXPECT_TRUE(at::equal(percentile_scale(at::full({64}, 7.0), 0.005), at::ones({64})));
  EXPECT_TRUE(at::equal(percentile_scale(at::rand({64}), 0.0), at::ones({64}))) << "none are clipped";
}

TEST(SmoothquantScale, SplitsTheDifficulty) {
  const at::Tensor x = at::tensor({16.0f, 1.0f, 0.0f}), w = at::tensor({1.0f, 4.0f, 2.0f});
  const at::Tensor half = smoothquant_scale(x, w, 0.5);
  EXPECT_FLOAT_EQ(half[0].item<float>(), 4);
  EXPECT_FLOAT_EQ(half[1].item<float>(), 0.5);
  EXPECT_GT(half[2].item<float>(), 0);
  EXPECT_TRUE(at::allclose(smoothquant_scale(x, w, 1).narrow(0, 0, 2), x.narrow(0, 0, 2)));
}

TEST(SearchAwq, FindsTheExponentAndKeepsTheModelOnTies) {
  at::manual_seed(9);
  const at::Tensor mean = at::rand({40}) + 0.1, target = awq_scale(mean, 0.35);
  const auto distance = [&](const at::Tensor& scale) {
    return (scale / target).log().abs().sum().item<double>();
  };
  EXPECT_NEAR(search_awq(mean, distance).parameter, 0.35, 1e-9);
  EXPECT_NEAR((target.max() * target.min()).item<double>(), 1, 1e-5);
  EXPECT_TRUE(at::equal(search_awq(mean, [](const at::Tensor&) { return 1.0; }).scale, at::ones({40})));
}

}  // namespace
}  // namespace tessera
