// Log-sum-exp and divergence against double precision.
#include "tessera/eval/logit_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace tessera {
namespace {

std::vector<float> random_logits(size_t size, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> logits(size);
  for (float& v : logits) v = spread * (static_cast<float>(random()) * 0x1p-31f - 1);
  return logits;
}

double exact_log_sum_exp(const std::vector<float>& x) {
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (float v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

double exact_kl(const std::vector<float>& a, const std::vector<float>& b) {
  const double a_lse = exact_log_sum_exp(a), b_lse = exact_log_sum_exp(b);
  double kl = 0;
  for (size_t i = 0; i < a.size(); ++i) kl += std::exp(a[i] - a_lse) * ((a[i] - a_lse) - (b[i] - b_lse));
  return kl;
}

TEST(LogitStatistics, LogSumExpOfEverySize) {
  for (size_t size : {1, 2, 15, 16, 17, 100, 8192, 32003}) {
    for (float spread : {0.1f, 10.0f, 300.0f}) {
      const auto x = random_logits(size, spread, static_cast<uint32_t>(size));
      EXPECT_NEAR(log_sum_exp(x), exact_log_sum_exp(x), 2e-6 * std::max(1.0f, spread))
          << size << " " << spread;
    }
  }
}

TEST(LogitStatistics, LikelihoodOfAToken) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  EXPECT_NEAR(negative_log_likelihood(logits, 0), std::log(2), 1e-6);
  EXPECT_NEAR(negative_log_likelihood(logits, 2), std::log(4), 1e-6);
}

TEST(LogitStatistics, AScoreHoldsTheLikeliestTokensWithTheSameNumbers) {
  const std::vector<float> logits = {1, 5, -2, 5, 3};
  const TokenScore score = score_token(logits, 4, 3);
  EXPECT_EQ(score.logprob, -negative_log_likelihood(logits, 4));
  ASSERT_EQ(score.top.size(), 3u);
  EXPECT_EQ(score.top[0].id, 1);
  EXPECT_EQ(score.top[1].id, 3);
  EXPECT_EQ(score.top[2].id, 4);
  EXPECT_EQ(score.top[2].logprob, score.logprob) << "the same double: clients compare";
  EXPECT_EQ(score_token(logits, 0, 99).top.size(), 5u);
  EXPECT_TRUE(score_token(logits, 0, 0).top.empty());
  EXPECT_TRUE(std::isnan(score_token(std::vector<float>{1, NAN, 2}, 0, 2).logprob));
}

TEST(LogitStatistics, DivergenceOfSmallAndLargeDifferences) {
  for (size_t size : {1, 5, 16, 1000, 8191}) {
    const auto a = random_logits(size, 8, 1);
    for (float noise : {0.001f, 0.1f, 5.0f}) {
      auto b = random_logits(size, noise, 2);
      for (size_t i = 0; i < size; ++i) b[i] += a[i] + 3;  // a shift changes nothing
      const double exact = exact_kl(a, b);
      EXPECT_NEAR(divergence(a, b).kl, exact, 1e-4 * exact + 2e-6) << size << " " << noise;
    }
    EXPECT_NEAR(divergence(a, a).kl, 0, 1e-6);
    EXPECT_TRUE(divergence(a, a).same_top);
  }
}

TEST(LogitStatistics, TheLowestIdOfEqualLogitsIsTheTop) {
  const std::vector<float> a = {1, 5, 5, 0}, b = {1, 5, 4, 0}, c = {1, 4, 5, 0};
  EXPECT_TRUE(divergence(a, b).same_top);
  EXPECT_FALSE(divergence(a, c).same_top);
}

}  // namespace
}  // namespace tessera
