// Rotary frequencies and tables.
#include "tessera/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tessera/kernels/ref/reference_backend.h"

namespace tessera {
namespace {

TEST(Rope, DefaultFrequenciesFallGeometrically) {
  const auto f = rope_frequencies({.theta = 10000.0}, 64);
  ASSERT_EQ(f.size(), 32u);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[16], 0.01, 1e-15);
  EXPECT_NEAR(f[8], 0.1, 1e-14);
}

TEST(Rope, LinearScalingDividesEveryFrequency) {
  const auto plain = rope_frequencies({}, 64);
  const auto scaled = rope_frequencies({.type = RopeConfig::Type::kLinear, .factor = 4.0}, 64);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_DOUBLE_EQ(scaled[i] * 4, plain[i]);
}

TEST(Rope, Llama3ScalingKeepsShortWavesAndDividesLongOnes) {
  const RopeConfig llama31{.type = RopeConfig::Type::kLlama3,
                           .theta = 500000.0,
                           .factor = 8.0,
                           .low_freq_factor = 1.0,
                           .high_freq_factor = 4.0,
                           .original_context = 8192};
  const auto plain = rope_frequencies({.theta = 500000.0}, 128);
  const auto scaled = rope_frequencies(llama31, 128);
  EXPECT_DOUBLE_EQ(scaled[0], plain[0]);
  EXPECT_DOUBLE_EQ(scaled[28], plain[28]);      // wavelength 1956 < 8192 / 4
  EXPECT_DOUBLE_EQ(scaled[63] * 8, plain[63]);  // wavelength beyond 8192
  EXPECT_GT(plain[30], scaled[30]);             // between
  EXPECT_LT(plain[30] / 8, scaled[30]);
  for (size_t i = 1; i < scaled.size(); ++i) EXPECT_LT(scaled[i], scaled[i - 1]);
}

TEST(Rope, TableHoldsEveryPosition) {
  const auto backend = make_reference_backend();
  const RopeTable table = make_rope_table({}, 8, 100, *backend);
  const auto f = rope_frequencies({}, 8);
  EXPECT_EQ(table.cos->bytes(), 100 * 4 * sizeof(float));
  EXPECT_FLOAT_EQ(table.cos->floats()[99 * 4 + 2], static_cast<float>(std::cos(99 * f[2])));
  EXPECT_FLOAT_EQ(table.sin->floats()[99 * 4 + 2], static_cast<float>(std::sin(99 * f[2])));
  EXPECT_FLOAT_EQ(table.sin->floats()[3], 0.0f);
}

}  // namespace
}  // namespace tessera
