// Tests of bringing other tools' weights into our formats: the real weights stay what they are.
#include "tessera/format/foreign/affine_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tessera/base/dyadic.h"
#include "tessera/base/error.h"
#include "tessera/format/reference.h"

namespace tessera::foreign {
namespace {

using testing::HasSubstr;

constexpr ActivationFormat kFloats{.bits = 16};

/// What the weights are, over the inputs, by their definition.
std::vector<double> real_weights(const AffineWeights& w) {
  std::vector<double> out;
  for (int64_t n = 0; n < w.n; ++n) {
    for (int64_t k = 0; k < w.k; ++k) {
      const int64_t g = w.input_group.empty() ? k / (w.k / w.groups) : w.input_group[static_cast<size_t>(k)];
      const auto at = static_cast<size_t>(n * w.groups + g);
      const int zero = w.zeros.empty() ? 1 << (w.bits - 1) : w.zeros[at];
      out.push_back(double{w.scales[at]} * (w.codes[static_cast<size_t>(n * w.k + k)] - zero));
    }
  }
  return out;
}

/// Converts, and compares every real weight; a product of 16 significant bits is exact in floats.
QuantizedLinear expect_exact(const AffineWeights& w, WeightFormat format) {
  const std::vector<double> expected = real_weights(w);
  QuantizedLinear linear = to_quantized_linear(w, kFloats);
  linear.validate("converted");
  EXPECT_EQ(name_of(linear.weight_format), name_of(format));
  const std::vector<float> found = input_weights(linear);
  EXPECT_EQ(std::vector<double>(found.begin(), found.end()), expected);
  return linear;
}

AffineWeights random_weights(int bits, int64_t groups, bool zeros, unsigned seed) {
  std::mt19937 rng(seed);
  AffineWeights w{.where = "x", .bits = bits, .n = 3, .k = 64, .groups = groups};
  const auto code = [&] { return static_cast<uint8_t>(rng() % (1u << bits)); };
  for (int64_t i = 0; i < w.n * w.k; ++i) w.codes.push_back(code());
  for (int64_t i = 0; i < w.n * groups; ++i) {
    w.scales.push_back(to_float(to_half(0.01f + 1e-4f * static_cast<float>(rng() % 1000))));
    if (zeros) w.zeros.push_back(code());
  }
  return w;
}

std::string error_of(const AffineWeights& w) {
  try {
    to_quantized_linear(w, kFloats).validate("x");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(AffineWeights, OneScaleARow) {
  for (int bits : {2, 3, 4}) {
    expect_exact(random_weights(bits, 1, false, 1), WeightFormat::kInt4);
    expect_exact(random_weights(bits, 1, true, 2), WeightFormat::kUint4Grouped);
  }
  for (int bits : {5, 6, 7, 8}) expect_exact(random_weights(bits, 1, false, 3), WeightFormat::kInt8);
  for (int bits : {5, 7}) expect_exact(random_weights(bits, 1, true, 4), WeightFormat::kInt8);
  AffineWeights negative = random_weights(8, 1, false, 5);
  negative.scales[1] = -negative.scales[1];
  expect_exact(negative, WeightFormat::kInt8);
}

TEST(AffineWeights, GroupsWithFloatScales) {
  for (int bits : {2, 3, 4}) {
    for (bool zeros : {false, true})
      expect_exact(random_weights(bits, 2, zeros, 6), WeightFormat::kUint4Float);
  }
}

TEST(AffineWeights, GroupsWithIntegerRatiosBecomeIntegers) {
  AffineWeights w = random_weights(4, 2, false, 7);
  for (size_t n = 0; n < 3; ++n) {
    const float unit = 0x1.5p-7f * static_cast<float>(n + 1);
    w.scales[2 * n] = 12 * unit;  // common factors go into the scale of the output
    w.scales[2 * n + 1] = 15 * unit;
  }
  const QuantizedLinear linear = expect_exact(w, WeightFormat::kUint4Grouped);
  EXPECT_EQ(linear.group_scale.as<int8_t>()[0], 4);
  EXPECT_EQ(linear.group_scale.as<int8_t>()[1], 5);

  AffineWeights wide = w;  // 17 * -8 leaves int8, where the code is used
  wide.scales[1] = 0x1p-7f;
  wide.scales[0] = 17 * wide.scales[1];
  wide.codes[0] = 0;
  expect_exact(wide, WeightFormat::kUint4Float);
  for (uint8_t& code : std::span(wide.codes).first(32)) code = std::max<uint8_t>(code, 1);
  EXPECT_EQ(to_quantized_linear(wide, kFloats).weight_format, WeightFormat::kUint4Grouped);
  AffineWeights far = w;
  far.scales[1] = 0x1p-7f;
  far.scales[0] = 128 * far.scales[1];  // too large for int8
  EXPECT_EQ(to_quantized_linear(far, kFloats).weight_format, WeightFormat::kUint4Float);
}

TEST(AffineWeights, NegativeScalesTurnCodesAround) {
  // All codes with all zero points.
  AffineWeights w{.where = "x", .n = 16, .k = 64, .groups = 2};
  for (int n = 0; n < 16; ++n) {
    for (int k = 0; k < 64; ++k) w.codes.push_back(static_cast<uint8_t>(k % 16));
    w.scales.insert(w.scales.end(), {-0.37109375f, n % 2 ? 0.25f : -1.5f});
    w.zeros.insert(w.zeros.end(), 2, static_cast<uint8_t>(n));
  }
  expect_exact(w, WeightFormat::kUint4Float);
  w.zeros.clear();
  const QuantizedLinear linear = expect_exact(w, WeightFormat::kUint4Float);
  EXPECT_EQ(linear.group_zero.as<uint8_t>()[0], 7) << "8 turned around";
}

TEST(AffineWeights, InputsAreSortedByTheirGroups) {
  AffineWeights w = random_weights(4, 4, true, 8);
  for (int k = 0; k < 64; ++k) w.input_group.push_back(k / 16);
  EXPECT_TRUE(to_quantized_linear(w, kFloats).input_index.empty()) << "sorted already";
  std::shuffle(w.input_group.begin(), w.input_group.end(), std::mt19937(9));
  const QuantizedLinear linear = to_quantized_linear(w, kFloats);
  EXPECT_EQ(linear.input_index.size(), 64);
  const std::vector<double> expected = real_weights(w);
  const std::vector<float> found = input_weights(linear);
  EXPECT_EQ(std::vector<double>(found.begin(), found.end()), expected);

  w.input_group[0] = w.input_group[1] == 0 ? 1 : 0;
  w.input_group[1] = w.input_group[0];
  w.input_group[2] = w.input_group[0];
  w.input_group[3] = w.input_group[0];
  w.input_group[4] = w.input_group[0];
  EXPECT_THAT(error_of(w), HasSubstr("g_idx does not spread 64 inputs over 4 groups of one size"));
  w.input_group.assign(64, -1);
  EXPECT_THAT(error_of(w), HasSubstr("g_idx"));
  w.input_group.assign(64, 1000);
  EXPECT_THAT(error_of(w), HasSubstr("g_idx"));
}

TEST(AffineWeights, ScalesBeyondHalfMoveToTheRow) {
  AffineWeights w = random_weights(4, 2, false, 10);
  w.scales = {0x1.5p-30f, 0x1.7p-31f, 0x1.5p90f, 0x1.7p88f, 0x1.01p-2f, 0x1.4p20f};
  expect_exact(w, WeightFormat::kUint4Float);
  w.scales[1] = 0x1.001p-31f;  // 13 significant bits
  EXPECT_THAT(error_of(w), HasSubstr("output 0 have more than the 11 significant bits"));
}

TEST(AffineWeights, RefusesWhatHasNoExactForm) {
  EXPECT_THAT(error_of(random_weights(8, 2, false, 11)), HasSubstr("codes of 8 bits in groups of 32 inputs"));
  AffineWeights wide = random_weights(8, 1, true, 12);
  wide.zeros[0] = 0;
  wide.codes[5] = 200;
  EXPECT_THAT(error_of(wide), HasSubstr("8-bit codes less their zero points leave int8"));
  AffineWeights w = random_weights(4, 2, true, 13);
  w.scales[1] = INFINITY;
  EXPECT_THAT(error_of(w), HasSubstr("x: a scale is not finite"));
  w = random_weights(4, 2, true, 14);
  w.zeros[3] = 16;
  EXPECT_THAT(error_of(w), HasSubstr("a zero point is no code of 4 bits"));
  w = random_weights(4, 2, true, 15);
  w.groups = 3;
  EXPECT_THAT(error_of(w), HasSubstr("64 inputs are no 3 groups of one size"));
}

TEST(Dyadic, IsTheFloat) {
  for (float value : {1.0f, -3.0f, 0x1.fffffep127f, 0x1p-149f, -0x1.234p-130f, 0.1f, 96.0f}) {
    const Dyadic exact(value);
    EXPECT_EQ(exact.m % 2 != 0, true);
    EXPECT_EQ(std::ldexp(static_cast<double>(exact.m), exact.e), double{value});
  }
  EXPECT_EQ(Dyadic(0), Dyadic());
}

/// Products of scales and integers, on which claims of equality stand, are exact in doubles; a number fits a
/// type when its bits do.
TEST(Dyadic, AgreesWithWideIntegers) {
  std::mt19937 random(7);
  const auto random_float = [&] {
    const auto m = static_cast<float>(random() % (1u << (1 + random() % 24)) + 1);
    return std::ldexp(m, static_cast<int>(random() % 40) - 50);
  };
  for (int i = 0; i < 10000; ++i) {
    const float a = random_float(), b = random_float();
    const int code = static_cast<int>(random() % 31) - 15;
    const Dyadic x(a), y(b), found(double{a} * double{b} * code);
    __extension__ __int128 m = static_cast<__int128>(x.m) * y.m * code;
    int e = x.e + y.e;
    while (m != 0 && m % 2 == 0) m /= 2, ++e;
    EXPECT_TRUE(found.m == m && (m == 0 || found.e == e)) << a << " * " << b << " * " << code;
    // 11 bits, and none below 2^-24.
    const bool fits = x.m < (1 << 11) && x.e >= -24 && a <= 65504;
    EXPECT_EQ(exactly<Half>(a).has_value(), fits) << a;
  }
}

}  // namespace
}  // namespace tessera::foreign
