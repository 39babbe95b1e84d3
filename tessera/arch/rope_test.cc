// Rotary frequencies and tables.
#include "tessera/arch/rope.h"

#include <gtest/gtest.h>

#include <cmath>

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

TEST(Rope, AnglesOfEveryPosition) {
  const RopeAngles angles = rope_angles({}, 8, 100);
  const auto f = rope_frequencies({}, 8);
  ASSERT_EQ(angles.cos.size(), 100u * 4);
  ASSERT_EQ(angles.sin.size(), 100u * 4);
  EXPECT_FLOAT_EQ(angles.cos[99 * 4 + 2], static_cast<float>(std::cos(99 * f[2])));
  EXPECT_FLOAT_EQ(angles.sin[99 * 4 + 2], static_cast<float>(std::sin(99 * f[2])));
  EXPECT_FLOAT_EQ(angles.sin[3], 0.0f);
}

}  // namespace
}  // namespace tessera
