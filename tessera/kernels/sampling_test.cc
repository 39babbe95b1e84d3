// Sampling: which tokens may be drawn, how often, and that nothing but the seed decides.
#include "tessera/kernels/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::map<int32_t, int> draw(const SamplingOptions& options, std::span<const float> logits, int count) {
  std::map<int32_t, int> seen;
  for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i) ++seen[sample_token(logits, {options, i, {}})];
  return seen;
}

TEST(Sampling, GreedyTakesTheLowestIdOfEquals) {
  EXPECT_EQ(sample_token(std::vector<float>{0, 3, 1, 3}, {}), 1);
  EXPECT_EQ(sample_token(std::vector<float>{-2, -3, -2}, {}), 0);
}

TEST(Sampling, FrequenciesFollowTheSoftmaxAtTheTemperature) {
  const std::vector<float> logits = {0, 1, 2, -1};
  for (float temperature : {0.5f, 1.0f, 2.0f}) {
    const auto seen = draw({.temperature = temperature, .seed = 7}, logits, 20000);
    double total = 0;
    for (float logit : logits) total += std::exp(logit / temperature);
    for (int32_t id = 0; id < 4; ++id) {
      const double p = std::exp(logits[static_cast<size_t>(id)] / temperature) / total;
      const double deviation = std::sqrt(p * (1 - p) / 20000);
      EXPECT_NEAR(seen.count(id) ? seen.at(id) / 20000.0 : 0, p, 4 * deviation)
          << id << " at " << temperature;
    }
  }
}

TEST(Sampling, TopKKeepsTheLikeliestAndTheLowestIdsOfEquals) {
  const std::vector<float> logits = {1, 2, 1, 1, 0};
  const auto seen = draw({.temperature = 1, .top_k = 3}, logits, 2000);
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_TRUE(seen.contains(0) && seen.contains(1) && seen.contains(2));
  EXPECT_EQ(draw({.temperature = 5, .top_k = 1}, logits, 50).size(), 1u);
  EXPECT_EQ(draw({.temperature = 1, .top_k = 99}, logits, 5000).size(), 5u);
}

TEST(Sampling, TopPKeepsTheFewestThatHoldTheShare) {
  const std::vector<float> logits = {std::log(0.15f), std::log(0.5f), std::log(0.05f), std::log(0.3f)};
  EXPECT_EQ(draw({.temperature = 1, .top_p = 0.45f}, logits, 500).size(), 1u);
  const auto two = draw({.temperature = 1, .top_p = 0.75f}, logits, 500);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_TRUE(two.contains(1) && two.contains(3));
  EXPECT_EQ(draw({.temperature = 1, .top_p = 0.9f}, logits, 5000).size(), 3u);
  EXPECT_EQ(draw({.temperature = 1, .top_p = 1.0f}, logits, 5000).size(), 4u);
}

TEST(Sampling, MinPLeavesOutWhatIsUnlikelyBesideTheBest) {
  const std::vector<float> logits = {std::log(0.2f), std::log(0.5f), std::log(0.05f), std::log(0.25f)};
  EXPECT_EQ(draw({.temperature = 1, .min_p = 0.09f}, logits, 5000).size(), 4u);
  const auto three = draw({.temperature = 1, .min_p = 0.3f}, logits, 5000);
  EXPECT_EQ(three.size(), 3u);
  EXPECT_FALSE(three.contains(2));
  EXPECT_EQ(draw({.temperature = 1, .min_p = 1}, logits, 500).size(), 1u);
  // It is measured at the temperature of the draw.
  EXPECT_EQ(draw({.temperature = 0.1f, .min_p = 0.3f}, logits, 500).size(), 1u);
  EXPECT_EQ(draw({.temperature = 1, .top_p = 0.5f, .min_p = 0.3f}, logits, 500).size(), 1u);
}

TEST(Sampling, EditsChangeLogitsBeforeAnythingElse) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {2, 3, -1};
  const auto greedy = [&](std::vector<LogitEdit> edits) { return sample_token(logits, {.edits = edits}); };
  EXPECT_EQ(greedy({{.id = 1, .divisor = 2}}), 0);
  EXPECT_EQ(greedy({{.id = 1, .addend = -1.5f}}), 0);
  EXPECT_EQ(greedy({{.id = 2, .addend = 5}}), 2);
  EXPECT_EQ(greedy({{.id = 0, .addend = -inf}, {.id = 1, .addend = -inf}}), 2);
  EXPECT_EQ(greedy({{.id = 0, .addend = -inf}, {.id = 1, .addend = -inf}, {.id = 2, .addend = -inf}}),
            kNoToken);
  EXPECT_FLOAT_EQ((LogitEdit{.id = 2, .divisor = 2}(-1)), -2) << "a penalty lowers what is below 0, too";
  const std::vector<LogitEdit> forbidden = {{.id = 2, .addend = -inf}};
  for (uint64_t i = 0; i < 2000; ++i) {
    ASSERT_NE(sample_token(logits, {{.temperature = 100}, i, forbidden}), 2);
  }
}

TEST(Sampling, SeedAndIndexDecide) {
  std::vector<float> logits(100);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 7);
  const auto sequence = [&](uint64_t seed) {
    std::vector<int32_t> ids;
    for (uint64_t i = 0; i < 20; ++i) {
      ids.push_back(sample_token(logits, {{.temperature = 1, .top_p = 0.9f, .seed = seed}, i, {}}));
    }
    return ids;
  };
  EXPECT_EQ(sequence(3), sequence(3));
  EXPECT_NE(sequence(3), sequence(4));
}

TEST(Sampling, ExtremeLogitsAreDrawnSafely) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(draw({.temperature = 1}, std::vector<float>{-inf, 1e30f, -1e30f}, 20).size(), 1u);
  EXPECT_EQ(sample_token(std::vector<float>{0, std::nanf(""), 1}, {}), kNoToken);
  EXPECT_EQ(sample_token(std::vector<float>{0, inf}, {}), kNoToken);
  EXPECT_EQ(sample_token(std::vector<float>{-inf, -inf}, {}), kNoToken);
}

TEST(Sampling, OptionsOutOfRangeAreRefused) {
  EXPECT_THROW(check_sampling({.temperature = -1}), Error);
  EXPECT_THROW(check_sampling({.temperature = std::nanf("")}), Error);
  EXPECT_THROW(check_sampling({.top_k = -1}), Error);
  EXPECT_THROW(check_sampling({.top_p = 0}), Error);
  EXPECT_THROW(check_sampling({.top_p = 1.5f}), Error);
  EXPECT_THROW(check_sampling({.min_p = -0.1f}), Error);
  EXPECT_THROW(check_sampling({.min_p = 1.1f}), Error);
}

}  // namespace
}  // namespace tessera
