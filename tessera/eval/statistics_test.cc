// Means, errors, percentiles.
#include "tessera/eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tessera {
namespace {

TEST(Statistics, MeanAndItsError) {
  const auto [mean, error] = mean_error(std::vector<double>{1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(mean, 3);
  EXPECT_DOUBLE_EQ(error, std::sqrt((4 + 1 + 0 + 9) / 3.0 / 4));
  EXPECT_DOUBLE_EQ(mean_error(std::vector<double>{5}).standard_error, 0);
}

TEST(Statistics, PercentilesAreValuesOfTheSample) {
  std::vector<double> values;
  for (int i = 200; i > 0; --i) values.push_back(i);
  const Distribution d = distribution(values);
  EXPECT_DOUBLE_EQ(d.mean, 100.5);
  EXPECT_DOUBLE_EQ(d.median, 100);
  EXPECT_DOUBLE_EQ(d.percentile_99, 198);
  EXPECT_DOUBLE_EQ(d.max, 200);
  EXPECT_DOUBLE_EQ(distribution({7}).percentile_99, 7);
}

}  // namespace
}  // namespace tessera
