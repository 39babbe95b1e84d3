// The cost model always names a configuration that runs, and its estimates behave.
#include "tessera/kernels/cuda/cost_model.h"

#include <gtest/gtest.h>

namespace tessera::cuda {
namespace {

TEST(CostModel, ChoosesRunnableConfigurations) {
  for (int64_t m : {1, 3, 17, 100, 257, 4096}) {
    for (int64_t n : {1, 64, 1000, 57344}) {
      for (int64_t k : {16, 128, 336, 28672}) {
        EXPECT_TRUE(runs(choose_config({4, 0}, m, n, k), k)) << m << " x " << n << " x " << k;
      }
    }
  }
}

TEST(CostModel, ChoosesOnlyWhatWasTimed) {
  for (const WeightLayout& layout : {WeightLayout{4, 0}, WeightLayout{4, 128}, WeightLayout{8, 0}}) {
    for (int64_t m = 1; m <= 5000; m += 1 + m / 7) {
      for (int64_t n : {256, 5120, 27648}) {
        const GemmConfig config = choose_config(layout, m, n, 5120);
        EXPECT_TRUE(is_plausible(config, m, n)) << m << " x " << n << ": " << config.outputs << " x "
                                                << config.tokens << " split " << config.split;
      }
    }
  }
}

TEST(CostModel, WideTilesForFewTokensAndSharedOnesForManyAreNotPlausible) {
  EXPECT_TRUE(is_plausible({32, 8, 1}, 1, 4096));
  EXPECT_TRUE(is_plausible({64, 64, 2}, 32, 4096));
  EXPECT_FALSE(is_plausible({64, 64, 2}, 31, 4096));
  EXPECT_TRUE(is_plausible({192, 96, 2}, 96, 27648));
  EXPECT_FALSE(is_plausible({192, 96, 2}, 192, 27648));
  EXPECT_FALSE(is_plausible({32, 16, 1}, 65, 4096));
}

TEST(CostModel, FewTokensTakeSmallTilesAndManyTakeLargeOnes) {
  EXPECT_LE(choose_config({4, 0}, 1, 4096, 4096).tokens, 16);
  const GemmConfig many = choose_config({4, 0}, 4096, 22016, 4096);
  EXPECT_GE(many.outputs * many.tokens, 192 * 128);
  EXPECT_EQ(many.split, 1);
}

TEST(CostModel, OutliersCostTimeAndAreNotShared) {
  const WeightLayout layout{4, 0};
  for (const GemmConfig& config : {GemmConfig{32, 8, 1, 8}, GemmConfig{128, 64, 4, 8}}) {
    EXPECT_GT(estimate_microseconds(layout, config, 8, 5120, 4864, 256),
              estimate_microseconds(layout, config, 8, 5120, 5120));
  }
  EXPECT_TRUE(splits_outliers(128, 96, 4));
  EXPECT_FALSE(splits_outliers(192, 80, 4));  // ten groups of 8 tokens
  const GemmConfig config{32, 16, 1, 8};
  EXPECT_LE(plan_stream(layout, config, 16, 27648, true).per_sm,
            plan_stream(layout, config, 16, 27648, false).per_sm);
}

TEST(CostModel, EightBitWeightsNeverCostLess) {
  for (int64_t m : {1, 64, 1024}) {
    const GemmConfig config{128, 64, 1};
    EXPECT_GE(estimate_microseconds({8, 0}, config, m, 12288, 4096),
              estimate_microseconds({4, 0}, config, m, 12288, 4096));
  }
}

}  // namespace
}  // namespace tessera::cuda
