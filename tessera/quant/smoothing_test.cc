// The search for sigma.
#include "tessera/quant/smoothing.h"

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
    EXPECT_NEAR(best.sigma, 3, linear ? 0.5 : 0.2);
    EXPECT_LE(best.loss, best.unsmoothed_loss);
    for (int64_t j = 0; j < absmax.size(0); ++j) {
      const double channel = absmax[j].item<double>(), scale = best.scale[j].item<double>();
      EXPECT_GE(scale, 1);
      if (channel <= best.sigma) {
        EXPECT_EQ(scale, 1);
      } else {
        EXPECT_NEAR(scale, channel / best.sigma, 1e-5 * scale);
      }
    }
  }
}

TEST(Smoothing, T3_TiesKeepTheModelAsItIs) {
  const at::Tensor absmax = at::tensor({1.0f, 50.0f});
  const Smoothing best = search_smoothing(absmax, [](const at::Tensor&) { return 1.0; }, {});
  EXPECT_TRUE(at::equal(best.scale, at::ones({2})));
  EXPECT_EQ(best.sigma, 50);
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

}  // namespace
}  // namespace tessera
