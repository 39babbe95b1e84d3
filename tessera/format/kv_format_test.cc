// The quantized key-value cache: codes, packing, error bound.
#include "tessera/format/kv_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.5f, 2.0f);
  std::vector<float> x(count);
  for (float& v : x) v = normal(rng);
  return x;
}

struct RoundTrip {
  KvScale scale;
  std::vector<uint8_t> row;
  std::vector<float> back;
};

RoundTrip round_trip(const std::vector<float>& x, KvFormat format) {
  RoundTrip r;
  r.row.resize(static_cast<size_t>(kv_row_bytes(format, static_cast<int64_t>(x.size()))));
  r.scale = quantize_kv(x, format, r.row);
  r.back.resize(x.size());
  dequantize_kv(r.row, format, r.scale, r.back);
  return r;
}

TEST(KvFormat, ErrorsStayWithinHalfAStep) {
  for (KvFormat format : {KvFormat::kInt8, KvFormat::kInt4}) {
    for (size_t d : {2, 16, 80, 128}) {
      for (unsigned seed = 0; seed < 20; ++seed) {
        const std::vector<float> x = random_floats(d, seed);
        const RoundTrip r = round_trip(x, format);
        const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
        const float step =
            (std::max(*hi, 0.0f) - std::min(*lo, 0.0f)) / static_cast<float>((1 << kv_bits(format)) - 1);
        EXPECT_FLOAT_EQ(r.scale.scale, step);
        EXPECT_GE(r.scale.zero, 0);
        EXPECT_LT(r.scale.zero, 1 << kv_bits(format));
        for (size_t i = 0; i < d; ++i) ASSERT_LE(std::fabs(r.back[i] - x[i]), step * 0.5001f);
      }
    }
  }
}

TEST(KvFormat, FourBitsPackHalvesOfTheHead) {
  const std::vector<float> x{0, 1, 2, 3, 12, 13, 14, 15};
  const RoundTrip r = round_trip(x, KvFormat::kInt4);
  EXPECT_EQ(r.row, (std::vector<uint8_t>{0xc0, 0xd1, 0xe2, 0xf3}));
  EXPECT_EQ(r.scale.scale, 1);
  EXPECT_EQ(r.scale.zero, 0);
  EXPECT_EQ(r.back, x);
}

TEST(KvFormat, DegenerateRows) {
  for (KvFormat format : {KvFormat::kInt8, KvFormat::kInt4}) {
    EXPECT_EQ(round_trip({0, 0, 0, 0}, format).back, (std::vector<float>{0, 0, 0, 0}));
    for (float v : round_trip({1, NAN, 2, 3}, format).back) EXPECT_TRUE(std::isnan(v));
    for (float v : round_trip({1, INFINITY, 2, 3}, format).back) EXPECT_TRUE(std::isnan(v));
  }
}

TEST(KvFormat, BitsAreRefusedOrKnown) {
  EXPECT_EQ(kv_format_of_bits(16, "x"), KvFormat::kF16);
  EXPECT_EQ(kv_format_of_bits(32, "x"), KvFormat::kF32);
  EXPECT_EQ(kv_format_of_bits(4, "x"), KvFormat::kInt4);
  for (int bits : {0, 3, 6, 64}) EXPECT_THROW(kv_format_of_bits(bits, "x"), Error);
}

}  // namespace
}  // namespace tessera
