// Tests of the integer format and its reference arithmetic.
#include "tessera/format/quantized_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tessera/base/error.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& v : x) v = normal(rng);
  return x;
}

TEST(Packing, RoundTripsBothRanges) {
  std::vector<int8_t> signed_codes, unsigned_codes;
  for (int i = 0; i < 16 * 16; ++i) {
    signed_codes.push_back(static_cast<int8_t>(i / 16 - 8));
    signed_codes.push_back(static_cast<int8_t>(i % 16 - 8));
    unsigned_codes.push_back(static_cast<int8_t>(i / 16));
    unsigned_codes.push_back(static_cast<int8_t>(i % 16));
  }
  EXPECT_EQ(unpack_int4(pack_int4(signed_codes, 2, 256), 2, 256, WeightFormat::kInt4), signed_codes);
  EXPECT_EQ(unpack_int4(pack_int4(unsigned_codes, 2, 256), 2, 256, WeightFormat::kUint4Grouped),
            unsigned_codes);
  static_assert(pack_nibbles(3, -2) == 0xe3, "low nibble is the even element");
  static_assert(sign_extend_nibble(unpack_nibble(0xe3, 1)) == -2);
}

// The kernels expand four weights at once with one multiply-add and one xor (DGQ spec, section 6.3).
TEST(Packing, TwoInstructionExpansionIsExact) {
  for (uint32_t s = 1; s <= 127; ++s) {
    for (int z = 0; z <= 15; ++z) {
      std::vector<uint32_t> legal;
      for (int u = 0; u < 16; ++u) {
        const int w = static_cast<int>(s) * (u - z);
        if (w >= -128 && w <= 127) legal.push_back(static_cast<uint32_t>(u));
      }
      for (size_t i = 0; i < legal.size(); ++i) {
        const std::array<uint32_t, 4> u{legal[i], legal[legal.size() - 1 - i], legal.front(), legal.back()};
        const uint32_t packed = u[0] | u[1] << 8 | u[2] << 16 | u[3] << 24;
        const uint32_t addend = (128u - static_cast<uint32_t>(z) * s) * 0x01010101u;
        const uint32_t expanded = (packed * s + addend) ^ 0x80808080u;
        for (int b = 0; b < 4; ++b) {
          ASSERT_EQ(static_cast<int8_t>(expanded >> 8 * b),
                    static_cast<int>(s) * (static_cast<int>(u[static_cast<size_t>(b)]) - z));
        }
      }
    }
  }
}

TEST(QuantizeSymmetric, Definition) {
  const std::vector<float> x{1.0f, -0.5f, 0.25f, 0.0f};
  std::vector<int8_t> codes(4);
  const TokenScale t = quantize_symmetric(x, 8, codes);
  EXPECT_EQ(t.scale, 1.0f / 127.0f);
  EXPECT_EQ(t.zero_point, 0);
  EXPECT_EQ(codes, (std::vector<int8_t>{127, -64, 32, 0}));  // 63.5 and 31.75: ties to even
}

TEST(QuantizeSymmetric, DegenerateRows) {
  std::vector<int8_t> codes(3, 1);
  EXPECT_EQ(quantize_symmetric(std::vector<float>{0, 0, 0}, 8, codes).scale, 0.0f);
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 0, 0}));
  EXPECT_EQ(quantize_symmetric(std::vector<float>{1e-38f, -1e-40f, 0}, 8, codes).scale, 0.0f)
      << "below 2^-100";
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    codes.assign(3, 1);
    EXPECT_TRUE(std::isnan(quantize_symmetric(std::vector<float>{1, bad, 2}, 8, codes).scale));
    EXPECT_EQ(codes, (std::vector<int8_t>{0, 0, 0}));
  }
}

TEST(QuantizeSymmetric, ErrorIsAtMostHalfAStepAndCodesAreStable) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const std::vector<float> x = random_floats(257, seed);
    std::vector<int8_t> codes(x.size()), again(x.size());
    const TokenScale t = quantize_symmetric(x, 8, codes);
    std::vector<float> back(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      back[i] = t.scale * static_cast<float>(codes[i]);
      ASSERT_LE(std::fabs(back[i] - x[i]), t.scale * 0.5001f);
    }
    quantize_symmetric(back, 8, again);
    ASSERT_EQ(codes, again);
  }
}

TEST(QuantizeAsymmetric, CoversTheRangeAndKeepsZero) {
  for (int bits : {4, 5, 6, 7, 8}) {
    for (unsigned seed = 0; seed < 50; ++seed) {
      std::vector<float> x = random_floats(129, seed);
      if (seed % 3 == 1) std::ranges::for_each(x, [](float& v) { v = std::fabs(v); });
      if (seed % 3 == 2) std::ranges::for_each(x, [](float& v) { v = -std::fabs(v); });
      x[0] = 0;
      std::vector<int8_t> codes(x.size());
      const TokenScale t = quantize_asymmetric(x, bits, codes);
      ASSERT_EQ(codes[0], t.zero_point) << "zero is reproduced exactly";
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_GE(codes[i], -(1 << (bits - 1)));
        ASSERT_LT(codes[i], 1 << (bits - 1));
        ASSERT_LE(std::fabs(t.scale * static_cast<float>(codes[i] - t.zero_point) - x[i]), t.scale * 0.5001f);
      }
    }
  }
  std::vector<int8_t> codes(2);
  EXPECT_TRUE(std::isfinite(quantize_asymmetric(std::vector<float>{0, 0}, 4, codes).scale));
}

TEST(Reference, AccumulatorsEqualFakeQuantizedProductInDouble) {
  for (WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
    const int64_t m = 3, n = 5, k = 128;
    const QuantizedLinear l = random_layer({.format = format, .n = n, .k = k, .group_size = 32}, 7);
    l.validate("test");
    const std::vector<float> x = random_floats(static_cast<size_t>(m * k), 8);
    std::vector<float> y(static_cast<size_t>(m * n));
    std::vector<int32_t> acc;
    reference_forward(l, x, m, y, &acc);
    const std::vector<float> w = dequantize(l);
    for (int64_t t = 0; t < m; ++t) {
      std::vector<int8_t> codes(static_cast<size_t>(k));
      const TokenScale s = quantize_symmetric(
          std::span(x).subspan(static_cast<size_t>(t * k), static_cast<size_t>(k)), 8, codes);
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i)
          sum += codes[static_cast<size_t>(i)] * static_cast<double>(w[static_cast<size_t>(j * k + i)]);
        const double expected = sum * s.scale;
        EXPECT_NEAR(y[static_cast<size_t>(t * n + j)], expected, 1e-5 * (1 + std::fabs(expected)));
        EXPECT_NEAR(acc[static_cast<size_t>(t * n + j)] *
                        static_cast<double>(l.scale.as<float>()[static_cast<size_t>(j)]),
                    sum, 1e-5 * (1 + std::fabs(sum)));
      }
    }
  }
}

TEST(Reference, AsymmetricIdentityAndOutliersAndMap) {
  QuantizedLinear l = random_layer({.format = WeightFormat::kInt4, .n = 4, .k = 6, .group_size = 0}, 3);
  l.activation = {.bits = 4, .symmetric = false};
  std::vector<int32_t> sums;
  std::vector<int8_t> w8(6);
  for (int64_t n = 0; n < 4; ++n) {
    expand_row(l, n, w8);
    sums.push_back(std::accumulate(w8.begin(), w8.end(), 0));
  }
  l.row_sum = Tensor::from<int32_t>(sums, {4});
  const std::vector<int32_t> outliers{2, 5};
  l.outlier_index = Tensor::from<int32_t>(outliers, {2});
  std::vector<Half> outlier_weight(8, to_half(0.5f));
  l.outlier_weight = Tensor::from<Half>(outlier_weight, {4, 2});
  l.validate("test");
  const std::vector<float> x{0.1f, -0.7f, 30.0f, 0.4f, 0.9f, -20.0f, 0.3f, 0.2f};
  std::vector<float> mapped(6), y(4);
  map_input(InputMap(l), x, mapped);
  EXPECT_EQ(mapped, (std::vector<float>{0.1f, -0.7f, 0.4f, 0.9f, 0.3f, 0.2f}));
  std::vector<int8_t> codes(6);
  const TokenScale t = quantize_asymmetric(mapped, 4, codes);
  reference_forward(l, x, 1, y);
  for (int64_t n = 0; n < 4; ++n) {
    expand_row(l, n, w8);
    double expected = 0;
    for (size_t i = 0; i < 6; ++i)
      expected += static_cast<double>(t.scale) * (codes[i] - t.zero_point) * w8[i];
    expected =
        expected * static_cast<double>(l.scale.as<float>()[static_cast<size_t>(n)]) + 0.5 * (30.0 - 20.0);
    EXPECT_NEAR(y[static_cast<size_t>(n)], expected, 1e-5);
  }

  QuantizedLinear mapped_linear =
      random_layer({.format = WeightFormat::kInt8, .n = 1, .k = 2, .group_size = 0}, 4);
  const std::vector<int32_t> index{3, 0, 1}, offset{0, 1, 3};
  const std::vector<float> gain{2.0f, 0.5f, 0.5f};
  mapped_linear.input_index = Tensor::from<int32_t>(index, {3});
  mapped_linear.input_gain = Tensor::from<float>(gain, {3});
  mapped_linear.input_offset = Tensor::from<int32_t>(offset, {3});
  mapped_linear.validate("test");
  std::vector<float> two(2);
  map_input(InputMap(mapped_linear), std::vector<float>{1, 3, 9, 5}, two);
  EXPECT_EQ(two, (std::vector<float>{10.0f, 2.0f}));
}

TEST(Validate, RefusesDamage) {
  const auto refuses = [](const char* what, const auto& damage) {
    QuantizedLinear l =
        random_layer({.format = WeightFormat::kUint4Grouped, .n = 4, .k = 64, .group_size = 32}, 1);
    EXPECT_NO_THROW(l.validate("ok"));
    damage(l);
    EXPECT_THROW(l.validate("damaged"), Error) << what;
  };
  refuses("scale missing", [](QuantizedLinear& l) { l.scale = {}; });
  refuses("scale NaN",
          [](QuantizedLinear& l) { l.scale.as<float>()[1] = std::numeric_limits<float>::quiet_NaN(); });
  refuses("group scale 0", [](QuantizedLinear& l) { l.group_scale.as<int8_t>()[0] = 0; });
  refuses("group scale leaves int8", [](QuantizedLinear& l) {
    l.group_scale.as<int8_t>()[0] = 17;
    l.qweight.as<uint8_t>()[0] = 0x00;
  });
  refuses("group size", [](QuantizedLinear& l) { l.group_size = 48; });
  refuses("wrong shape", [](QuantizedLinear& l) { l.qweight = Tensor(DType::kU8, {4, 16}); });
  refuses("asymmetric without row sums", [](QuantizedLinear& l) { l.activation.symmetric = false; });
  refuses("static without scale", [](QuantizedLinear& l) { l.activation.per_token = false; });
  refuses("row sum beyond any weights", [](QuantizedLinear& l) {
    l.activation.symmetric = false;
    l.row_sum = Tensor(DType::kI32, {4});
    l.row_sum.as<int32_t>()[2] = std::numeric_limits<int32_t>::min();
  });
  refuses("row sums of another layer", [](QuantizedLinear& l) { l.row_sum = Tensor(DType::kI32, {3}); });
  refuses("group scales of bytes", [](QuantizedLinear& l) {
    l.weight_format = WeightFormat::kInt8;
    l.qweight = Tensor(DType::kI8, {4, 64});
  });
  refuses("zero points without group scales", [](QuantizedLinear& l) {
    l.weight_format = WeightFormat::kInt4;
    l.group_size = 0;
    l.group_scale = {};
    l.group_zero = Tensor(DType::kU8, {4, 2});
  });
  refuses("outlier weights without columns", [](QuantizedLinear& l) {
    l.outlier_weight = Tensor(DType::kF16, {4, 1});
  });
  refuses("static scale infinite", [](QuantizedLinear& l) {
    l.activation.per_token = false;
    l.input_scale = Tensor::from<float>(std::vector<float>{INFINITY}, {1});
  });
  refuses("gain without index", [](QuantizedLinear& l) { l.input_gain = Tensor(DType::kF32, {64}); });
  refuses("repeat of 0", [](QuantizedLinear& l) {
    l.activation.bits = 4;
    l.input_repeat = Tensor(DType::kU8, {64});
  });
  refuses("repeat beyond int8", [](QuantizedLinear& l) {
    l.activation = {.bits = 4, .symmetric = false};
    l.input_repeat = Tensor::from<uint8_t>(std::vector<uint8_t>(64, 9), {64});
  });
  refuses("repeat of floats", [](QuantizedLinear& l) {
    l.activation = {.bits = 16};
    l.input_repeat = Tensor::from<uint8_t>(std::vector<uint8_t>(64, 1), {64});
  });
  refuses("outlier weight NaN", [](QuantizedLinear& l) {
    l.outlier_index = Tensor::from<int32_t>(std::vector<int32_t>{3}, {1});
    l.outlier_weight = Tensor(DType::kF16, {4, 1});
    l.outlier_weight.as<Half>()[1] = to_half(INFINITY);
  });
  refuses("a column without a source", [](QuantizedLinear& l) {
    l.input_index = Tensor(DType::kI32, {64});
    std::vector<int32_t> offset(65);
    std::iota(offset.begin(), offset.end(), 0);
    offset[1] = 0;
    l.input_offset = Tensor::from<int32_t>(offset, {65});
  });
  refuses("map offsets", [](QuantizedLinear& l) {
    l.input_index = Tensor(DType::kI32, {64});
    l.input_offset = Tensor(DType::kI32, {65});
  });
}

TEST(Validate, ChecksGroupsOfOddSizes) {
  QuantizedLinear l =
      random_layer({.format = WeightFormat::kUint4Grouped, .n = 2, .k = 30, .group_size = 3}, 1);
  EXPECT_NO_THROW(l.validate("ok"));
  l.group_scale.as<int8_t>().back() = 100;  // the last group lies beyond 10 groups of 1 byte
  l.qweight.as<uint8_t>().back() = 0xff;
  EXPECT_THROW(l.validate("damaged"), Error);
}

TEST(Validate, RefusesRowsWhoseSumsCouldOverflow) {
  for (bool symmetric : {true, false}) {
    const ActivationFormat format{.bits = 8, .symmetric = symmetric};
    const int64_t largest = max_integer_k(format);
    EXPECT_GE(largest, 59392) << "the widest layer of Falcon-180B";
    QuantizedLinear l =
        random_layer({.format = WeightFormat::kInt8, .n = 1, .k = largest, .group_size = 0}, 1);
    l.activation = format;
    l.row_sum = Tensor(DType::kI32, {1});
    EXPECT_NO_THROW(l.validate("ok"));
    l.k = largest + 1;
    l.qweight = Tensor(DType::kI8, {1, l.k});
    EXPECT_THROW(l.validate("too wide"), Error);
    l.activation = {.bits = 16};
    EXPECT_NO_THROW(l.validate("floats do not overflow"));
  }
}

TEST(Describe, NamesWhatMatters) {
  QuantizedLinear l =
      random_layer({.format = WeightFormat::kUint4Grouped, .n = 4, .k = 64, .group_size = 32}, 1);
  EXPECT_EQ(describe(l), "w4a8 g32");
  l = random_layer({.format = WeightFormat::kInt4, .n = 4, .k = 64, .group_size = 0}, 1);
  l.activation = {.bits = 4, .symmetric = false};
  l.outlier_index = Tensor(DType::kI32, {2});
  EXPECT_EQ(describe(l), "w4a4 asymmetric per-channel, 2 f16 outliers");
  l = random_layer({.format = WeightFormat::kInt8, .n = 4, .k = 64, .group_size = 0}, 1);
  l.activation.per_token = false;
  l.input_index = Tensor(DType::kI32, {64});
  EXPECT_EQ(describe(l), "w8a8 static per-channel, mapped");
}

TEST(Disk, RoundTrip) {
  const fs::path dir = fs::temp_directory_path() / "tessera_quantized_linear_test";
  fs::remove_all(dir);
  fs::create_directories(dir);
  const QuantizedLinear l =
      random_layer({.format = WeightFormat::kUint4Grouped, .n = 6, .k = 128, .group_size = 64}, 5);
  write_safetensors(dir / "model.safetensors", named_tensors(l, "block.q_proj"));
  const Checkpoint checkpoint(dir);
  EXPECT_TRUE(is_quantized(checkpoint, "block.q_proj"));
  EXPECT_FALSE(is_quantized(checkpoint, "block.k_proj"));
  const QuantizedLinear back = load_quantized_linear(checkpoint, "block.q_proj", {.activation = {}}, 6, 128);
  EXPECT_EQ(back.group_size, 64);
  EXPECT_EQ(back.bytes(), l.bytes());
  EXPECT_EQ(dequantize(back), dequantize(l));
  EXPECT_THROW(load_quantized_linear(checkpoint, "block.q_proj", {.activation = {}}, 6, 256), Error);
  EXPECT_THROW(load_quantized_linear(checkpoint, "block.q_proj", {.activation = {}}, 5, 128), Error);
  fs::remove_all(dir);
}

ActivationFormat activation_of(const nlohmann::json& value) {
  return activation_format_from_json({value, "x"});
}

TEST(ActivationFormat, JsonRoundTripAndRefusals) {
  const ActivationFormat format{.bits = 4, .symmetric = false, .per_token = true};
  EXPECT_EQ(activation_of(to_json(format)), format);
  const ActivationFormat real{.bits = 4, .symmetric = false, .real_zero = true};
  EXPECT_EQ(activation_of(to_json(real)), real);
  EXPECT_EQ(activation_of({{"bits", 6}}).bits, 6);
  EXPECT_TRUE(activation_of({{"bits", 16}}).weight_only());
  const nlohmann::json refused[] = {{{"bits", 3}},
                                    {{"bits", 9}},
                                    {{"bits", 15}},
                                    {{"bits", 17}},
                                    {{"bits", -8}},
                                    {{"bits", 8.0}},
                                    {{"bits", true}},
                                    {{"bits", 16}, {"scale", "static"}},
                                    {{"bit", 8}},
                                    {{"scale", "tensor"}},
                                    {{"scale", "static"}, {"symmetric", false}},
                                    {{"zero", "real"}},
                                    {{"zero", 0}, {"symmetric", false}},
                                    8};
  for (const nlohmann::json& value : refused) EXPECT_THROW(activation_of(value), Error) << value;
}

}  // namespace
}  // namespace tessera
