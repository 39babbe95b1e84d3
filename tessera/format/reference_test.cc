// Identities that the methods rest on: zero points, outliers, channel disassembly and assembly, and the range
// of the sums.
#include "tessera/format/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace tessera {
namespace {

using Rng = std::mt19937;

std::vector<float> random_floats(size_t count, Rng& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& v : x) v = normal(rng);
  return x;
}

int32_t sum_of(std::span<const int8_t> w8) {
  return std::accumulate(w8.begin(), w8.end(), 0);
}

/// A layer of one output whose int8 operand is `w8`.
QuantizedLinear byte_layer(const std::vector<int8_t>& w8, const ActivationFormat& activation) {
  QuantizedLinear l;
  l.n = 1;
  l.k = static_cast<int64_t>(w8.size());
  l.weight_format = WeightFormat::kInt8;
  l.activation = activation;
  l.qweight = Tensor::from<int8_t>(w8, {1, l.k});
  l.scale = Tensor::from<float>(std::vector<float>{0.5f}, {1});
  if (l.has_zero_point()) l.row_sum = Tensor::from<int32_t>(std::vector<int32_t>{sum_of(w8)}, {1});
  return l;
}

// ---- activation codes

TEST(QuantizeAsymmetric, SingleSignedAndConstantRows) {
  for (int bits = 4; bits <= 8; ++bits) {
    for (float value : {0.0f, 3.0f, -3.0f, 1e-38f, -1e30f}) {
      const std::vector<float> x(7, value);
      std::vector<int8_t> codes(7);
      const TokenScale t = quantize_asymmetric(x, bits, codes);
      ASSERT_TRUE(std::isfinite(t.scale));
      const int half = 1 << (bits - 1);
      ASSERT_GE(t.zero_point, -half);
      ASSERT_LT(t.zero_point, half);
      const float back = t.scale * static_cast<float>(codes[3] - t.zero_point);
      ASSERT_NEAR(back, value, std::fabs(value) * 1e-6f + 1e-30f);
    }
  }
}

TEST(QuantizeAsymmetric, ScalingATokenByAPowerOfTwoKeepsItsCodes) {
  Rng rng(1);
  for (int bits = 4; bits <= 8; ++bits) {
    const std::vector<float> x = random_floats(100, rng);
    std::vector<float> scaled(x);
    for (float& v : scaled) v *= 0x1p-7f;
    std::vector<int8_t> a(100), b(100);
    const TokenScale s = quantize_asymmetric(x, bits, a), t = quantize_asymmetric(scaled, bits, b);
    EXPECT_EQ(a, b);
    EXPECT_EQ(s.scale * 0x1p-7f, t.scale);
    EXPECT_EQ(s.zero_point, t.zero_point);
  }
}

// "QUIK", variant R.
TEST(QuantizeRealZero, KeepsTheLeastValueAndErrsByHalfAStep) {
  Rng rng(2);
  for (int bits = 4; bits <= 8; ++bits) {
    const int half = 1 << (bits - 1);
    for (float shift : {0.0f, 50.0f, -50.0f}) {
      std::vector<float> x = random_floats(100, rng);
      for (float& v : x) v += shift;
      std::vector<int8_t> codes(100);
      const TokenScale t = quantize_real_zero(x, bits, codes);
      EXPECT_EQ(t.zero_point, 0);
      EXPECT_EQ(*std::ranges::min_element(codes), -half);
      EXPECT_EQ(*std::ranges::max_element(codes), half - 1);
      for (size_t k = 0; k < x.size(); ++k) {
        const bool least = x[k] == *std::ranges::min_element(x);
        const float back = t.scale * static_cast<float>(codes[k]) + t.offset;
        EXPECT_LE(std::fabs(back - x[k]), (least ? 0 : 0.5f * t.scale) + 1e-5f);
      }
    }
  }
  std::vector<int8_t> codes(3);
  const TokenScale constant = quantize_real_zero(std::vector<float>{7, 7, 7}, 4, codes);
  EXPECT_NEAR(constant.scale * static_cast<float>(codes[1]) + constant.offset, 7, 1e-5);
  EXPECT_TRUE(std::isnan(quantize_real_zero(std::vector<float>{-3e38f, 3e38f, 0}, 4, codes).scale));
}

// The offset stands for what the integer zero point does: the sum over x with x = scale * code + offset.
TEST(QuantizeRealZero, EpilogueAddsTheOffsetTimesTheRowSum) {
  Rng rng(3);
  QuantizedLinear l = byte_layer({5, -7, 3, 2, -1}, {.bits = 4, .symmetric = false, .real_zero = true});
  l.validate("test");
  std::vector<float> x = random_floats(5, rng), y(1);
  for (float& v : x) v += 3;
  reference_forward(l, x, 1, y);
  std::vector<int8_t> codes(5);
  const TokenScale t = quantize_real_zero(x, 4, codes);
  double expected = 0;
  for (size_t k = 0; k < 5; ++k) {
    expected += (double{t.scale} * codes[k] + double{t.offset}) * dequantize(l)[k];
  }
  EXPECT_NEAR(y[0], expected, 1e-5 * std::fabs(expected) + 1e-6);
}

TEST(QuantizeStatic, SaturatesAndRoundsToEven) {
  std::vector<int8_t> codes(6);
  const TokenScale t = quantize_static(std::vector<float>{0.5f, 1.5f, -2.5f, 1000, -1000, 0}, 8, 1.0f, codes);
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 2, -2, 127, -127, 0}));
  EXPECT_EQ(t.scale, 1.0f);
  quantize_static(std::vector<float>{0.5f, 1.5f, -2.5f, 1000, -1000, 0}, 6, 1.0f, codes);
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 2, -2, 31, -31, 0}));
}

// ---- zero points

// sum (u - z_x) (v - z_w), with the weight's zero point inside w8 and the token's in the row sum.
TEST(ZeroPoints, BracketEqualsTheProductOfCentredCodes) {
  struct Bits {
    int weight, activation;
  };
  Rng rng(2);
  for (const auto [weight_bits, bits] : {Bits{4, 4}, Bits{6, 6}, Bits{4, 8}, Bits{8, 8}}) {
    for (bool extreme : {false, true}) {
      const size_t k = weight_bits == 8 ? 59392 : 28672;
      const int levels = (1 << bits) - 1, half = 1 << (bits - 1), weight_levels = (1 << weight_bits) - 1;
      // Centred 8-bit weights exceed int8; they are symmetric.
      const int weight_zero = weight_bits == 8 ? 128 : extreme ? 0 : weight_levels / 3;
      const int zero = extreme ? levels : static_cast<int>(rng() % static_cast<unsigned>(levels));
      std::vector<int8_t> codes(k), w8(k);
      int64_t expected = 0;
      for (size_t i = 0; i < k; ++i) {
        const int u = extreme ? 0 : static_cast<int>(rng()) & levels;
        const int v = extreme ? weight_levels : static_cast<int>(rng()) & weight_levels;
        codes[i] = static_cast<int8_t>(u - half);
        w8[i] = static_cast<int8_t>(v - weight_zero);
        expected += int64_t{u - zero} * (v - weight_zero);
      }
      const int32_t acc = dot(codes, w8), bracket = acc - (zero - half) * sum_of(w8);
      EXPECT_EQ(bracket, expected);
      const float y = scale_accumulator(acc, sum_of(w8), 0.25f, {0.5f, zero - half});
      EXPECT_TRUE(std::isfinite(y));
      EXPECT_NEAR(y, static_cast<double>(expected) / 8, std::abs(static_cast<double>(expected)) * 0x1p-26);
    }
  }
}

TEST(ZeroPoints, SumsReachTheirBoundsWithoutOverflow) {
  for (bool symmetric : {true, false}) {
    const auto k = static_cast<size_t>(max_integer_k({.bits = 8, .symmetric = symmetric}));
    for (int sign : {-1, 1}) {
      const std::vector<int8_t> codes(k, -128), w8(k, static_cast<int8_t>(sign < 0 ? -128 : 127));
      const int64_t expected = int64_t{-128} * w8[0] * static_cast<int64_t>(k);
      EXPECT_EQ(dot(codes, w8), expected);
      if (symmetric) continue;
      const int64_t bracket = int64_t{-255} * w8[0] * static_cast<int64_t>(k);  // zero point 127
      EXPECT_EQ(dot(codes, w8) - int64_t{127} * sum_of(w8), bracket);
      EXPECT_LE(std::abs(bracket), std::numeric_limits<int32_t>::max());
    }
  }
}

// A row's 4-bit zero point is one group with scale 1.
TEST(ZeroPoints, OneGroupARowHoldsTheZeroPointOfTheWeights) {
  QuantizedLinear l;
  l.n = 2;
  l.k = 16;
  l.group_size = 16;
  l.weight_format = WeightFormat::kUint4Grouped;
  std::vector<int8_t> codes(32);
  std::iota(codes.begin(), codes.begin() + 16, int8_t{0});
  std::iota(codes.begin() + 16, codes.end(), int8_t{0});
  l.qweight = pack_int4(codes, 2, 16);
  l.scale = Tensor::from<float>(std::vector<float>{1, 1}, {2});
  l.group_scale = Tensor::from<int8_t>(std::vector<int8_t>{1, 1}, {2, 1});
  l.group_zero = Tensor::from<uint8_t>(std::vector<uint8_t>{3, 15}, {2, 1});
  l.validate("test");
  std::vector<int8_t> w8(16);
  for (int64_t n : {0, 1}) {
    expand_row(l, n, w8);
    for (size_t i = 0; i < 16; ++i) EXPECT_EQ(w8[i], static_cast<int>(i) - (n == 0 ? 3 : 15));
  }
}

// ---- outliers

TEST(Outliers, NeverInfluenceTheCodes) {
  QuantizedLinear l = byte_layer({1, -2, 3}, {.bits = 4, .symmetric = false});
  l.outlier_index = Tensor::from<int32_t>(std::vector<int32_t>{1, 4}, {2});
  l.outlier_weight = Tensor::from<Half>(std::vector<Half>(2, to_half(0.25f)), {1, 2});
  l.validate("test");
  ASSERT_EQ(l.k_in(), 5);
  std::vector<float> x{0.5f, 0, -1, 2, 0}, y(1);
  std::vector<int32_t> before, after;
  reference_forward(l, x, 1, y, &before);
  const float base = y[0];
  x[1] = 1e6f;
  x[4] = -3e5f;
  reference_forward(l, x, 1, y, &after);
  EXPECT_EQ(before, after);
  EXPECT_EQ(y[0], base + 0.25f * (1e6f - 3e5f));
}

// ---- channel disassembly and assembly

/// Weight-only layer over `x` whose columns are all copied times[i] times with gain 1 / times[i].
QuantizedLinear disassembled(const std::vector<int8_t>& w8, const std::vector<int>& times,
                             const ActivationFormat& activation) {
  std::vector<int8_t> copies;
  std::vector<int32_t> index;
  std::vector<float> gain;
  for (size_t i = 0; i < w8.size(); ++i) {
    copies.insert(copies.end(), static_cast<size_t>(times[i]), w8[i]);
    index.insert(index.end(), static_cast<size_t>(times[i]), static_cast<int32_t>(i));
    gain.insert(gain.end(), static_cast<size_t>(times[i]), 1.0f / static_cast<float>(times[i]));
  }
  QuantizedLinear l = byte_layer(copies, activation);
  l.input_index = Tensor::from<int32_t>(index, {l.k});
  l.input_gain = Tensor::from<float>(gain, {l.k});
  l.validate("disassembled");
  return l;
}

TEST(Disassembly, LeavesTheProductUnchanged) {
  Rng rng(3);
  for (int power_of_two : {1, 0}) {
    std::vector<int8_t> w8(40);
    std::vector<int> times(40);
    for (size_t i = 0; i < w8.size(); ++i) {
      w8[i] = static_cast<int8_t>(static_cast<int>(rng() % 255) - 127);
      times[i] = power_of_two ? 1 << rng() % 5 : 1 + static_cast<int>(rng() % 16);
    }
    const std::vector<float> x = random_floats(40, rng);
    float plain = 0, split = 0;
    reference_forward(byte_layer(w8, {.bits = 16}), x, 1, {&plain, 1});
    reference_forward(disassembled(w8, times, {.bits = 16}), x, 1, {&split, 1});
    if (power_of_two) {
      EXPECT_EQ(split, plain);
    } else {
      EXPECT_NEAR(split, plain, 1e-4);
    }
  }
}

// T equal channels as one whose code counts T times: the same integers ("QLLM", widened operands).
TEST(Disassembly, VirtualEqualsPhysicalInEveryInteger) {
  constexpr int kMost = 8;  // codes of 4 bits less their zero point reach 15
  Rng rng(4);
  for (int t = 1; t <= 64; ++t) {
    for (bool symmetric : {true, false}) {
      const ActivationFormat format{.bits = 4, .symmetric = symmetric};
      const std::vector<int8_t> w8{7, -8, 3, -1, 5};
      const std::vector<int> times{1, t, 1, 2, 1};
      const QuantizedLinear physical = disassembled(w8, times, format);

      std::vector<int8_t> virtual_w8;
      std::vector<int32_t> index;
      std::vector<float> gain;
      std::vector<uint8_t> repeat;
      for (size_t i = 0; i < w8.size(); ++i) {
        for (int left = times[i]; left > 0; left -= kMost) {
          virtual_w8.push_back(w8[i]);
          index.push_back(static_cast<int32_t>(i));
          gain.push_back(1.0f / static_cast<float>(times[i]));
          repeat.push_back(static_cast<uint8_t>(std::min(left, kMost)));
        }
      }
      QuantizedLinear merged = byte_layer(virtual_w8, format);
      merged.input_index = Tensor::from<int32_t>(index, {merged.k});
      merged.input_gain = Tensor::from<float>(gain, {merged.k});
      merged.input_repeat = Tensor::from<uint8_t>(repeat, {merged.k});
      merged.validate("virtual");

      std::vector<float> x = random_floats(5, rng), y(1), z(1);
      x[1] *= static_cast<float>(t);
      std::vector<int32_t> a, b;
      reference_forward(physical, x, 1, y, &a);
      reference_forward(merged, x, 1, z, &b);
      EXPECT_EQ(y, z) << t;
      if (symmetric) {
        EXPECT_EQ(a, b) << t;
      }
    }
  }
}

TEST(Assembly, AveragesTheSourcesOfAColumn) {
  QuantizedLinear l = byte_layer({2, 1}, {.bits = 16});
  l.input_index = Tensor::from<int32_t>(std::vector<int32_t>{0, 2, 3, 1}, {4});
  l.input_gain = Tensor::from<float>(std::vector<float>{0.25f, 0.25f, 0.5f, 1}, {4});
  l.input_offset = Tensor::from<int32_t>(std::vector<int32_t>{0, 3, 4}, {3});
  l.validate("test");
  ASSERT_EQ(l.k_in(), 4);
  std::vector<float> mapped(2);
  map_input(InputMap(l), std::vector<float>{1, 10, 3, 8}, mapped);
  EXPECT_EQ(mapped, (std::vector<float>{5, 10}));
}

TEST(SameInput, ComparesMapCodesAndOutliers) {
  const QuantizedLinear a = byte_layer({1, 2, 3}, {});
  QuantizedLinear b = byte_layer({3, 2, 1}, {});
  EXPECT_TRUE(same_input(a, b));
  b.input_index = Tensor::from<int32_t>(std::vector<int32_t>{2, 1, 0}, {3});
  EXPECT_FALSE(same_input(a, b));
  EXPECT_TRUE(same_input(b, b.clone()));
  EXPECT_FALSE(same_input(a, byte_layer({1, 2, 3}, {.bits = 6})));
}

}  // namespace
}  // namespace tessera
