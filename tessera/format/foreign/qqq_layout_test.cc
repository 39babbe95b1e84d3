// Tests of the QQQ checkpoint layout.
#include "tessera/format/foreign/qqq_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace tessera::qqq {
namespace {

// Known positions: (k, n) -> word, nibble per channel / grouped.
static_assert(code_position(0, 0, false) == CodePosition{0, 0, 1});
static_assert(code_position(0, 0, true) == CodePosition{0, 0, 0});
static_assert(code_position(1, 0, false) == CodePosition{0, 0, 3});
static_assert(code_position(1, 0, true) == CodePosition{0, 0, 4});
static_assert(code_position(2, 0, true) == CodePosition{0, 0, 1});
static_assert(code_position(4, 0, false) == CodePosition{0, 4, 1});
static_assert(code_position(0, 1, false) == CodePosition{0, 16, 1});
static_assert(code_position(0, 8, false) == CodePosition{0, 0, 0});
static_assert(code_position(0, 8, true) == CodePosition{0, 0, 2});
static_assert(code_position(0, 16, true) == CodePosition{0, 1, 0});
static_assert(code_position(0, 64, false) == CodePosition{0, 128, 1});
static_assert(code_position(16, 0, false) == CodePosition{1, 0, 1});

/// Packs codes [K, N] and unpacks them again through the map.
TEST(QqqLayout, T16_PackThenUnpackIsIdentity) {
  std::mt19937 rng(3);
  for (bool grouped : {false, true}) {
    for (auto [k_size, n_size] : {std::pair<int64_t, int64_t>{128, 64}, {64, 256}, {256, 192}}) {
      std::vector<uint8_t> codes(static_cast<size_t>(k_size * n_size));
      for (uint8_t& c : codes) c = rng() & 15;
      std::vector<uint32_t> packed(static_cast<size_t>(k_size / 16 * 2 * n_size));
      std::vector<int> used(packed.size() * 8);
      const auto word_of = [row_words = 2 * n_size](const CodePosition& p) {
        return static_cast<size_t>(p.row * row_words + p.word);
      };
      for (int64_t k = 0; k < k_size; ++k) {
        for (int64_t n = 0; n < n_size; ++n) {
          const CodePosition p = code_position(k, n, grouped);
          packed[word_of(p)] |= uint32_t{codes[static_cast<size_t>(k * n_size + n)]} << 4 * p.nibble;
          ++used[word_of(p) * 8 + static_cast<size_t>(p.nibble)];
        }
      }
      EXPECT_TRUE(std::ranges::all_of(used, [](int u) { return u == 1; })) << "the map is a bijection";
      for (int64_t k = 0; k < k_size; ++k) {
        for (int64_t n = 0; n < n_size; ++n) {
          const CodePosition p = code_position(k, n, grouped);
          ASSERT_EQ(packed[word_of(p)] >> 4 * p.nibble & 15, codes[static_cast<size_t>(k * n_size + n)]);
        }
      }
    }
  }
}

// What a lane does with its word: masks and shifts must yield the int8 operands of columns n (half 0) and n +
// 8 (half 1).
TEST(QqqLayout, T16_LaneSeesItsFragment) {
  for (int64_t lane = 0; lane < 32; ++lane) {
    uint32_t channel = 0, grouped = 0;
    const auto code = [](int half, int byte) { return static_cast<uint32_t>(1 + half * 4 + byte); };
    for (int half = 0; half < 2; ++half) {
      for (int byte = 0; byte < 4; ++byte) {
        const int64_t k = 4 * (lane % 4) + byte, n = lane / 4 + 8 * half;
        const CodePosition c = code_position(k, n, false), g = code_position(k, n, true);
        ASSERT_EQ(c.word, 4 * lane);
        ASSERT_EQ(g.word, 4 * lane);
        channel |= code(half, byte) << 4 * c.nibble;
        grouped |= code(half, byte) << 4 * g.nibble;
      }
    }
    for (int byte = 0; byte < 4; ++byte) {
      EXPECT_EQ((channel & 0xf0f0f0f0u) >> 8 * byte & 255, code(0, byte) << 4);
      EXPECT_EQ((channel << 4 & 0xf0f0f0f0u) >> 8 * byte & 255, code(1, byte) << 4);
      for (int half = 0; half < 2; ++half) {
        const uint32_t word = grouped >> 8 * half;
        const uint32_t pair = byte < 2 ? word & 0x000f000fu : word >> 4 & 0x000f000fu;
        EXPECT_EQ(pair >> 16 * (byte % 2) & 15, code(half, byte));
      }
    }
  }
}

TEST(QqqLayout, T16_ScalePermutationsInvert) {
  std::vector<int> group(256), channel(256);
  for (int64_t n = 0; n < 256; ++n) {
    ++group[static_cast<size_t>(group_scale_column(n))];
    ++channel[static_cast<size_t>(channel_scale_column(n))];
    EXPECT_EQ(group_scale_column(group_scale_column(n)), n);
    EXPECT_EQ(channel_scale_column(channel_scale_column(n)), n);
  }
  EXPECT_TRUE(std::ranges::all_of(group, [](int c) { return c == 1; }));
  EXPECT_TRUE(std::ranges::all_of(channel, [](int c) { return c == 1; }));
}

// The kernel computes (u - 8) * s + 1152 with one binary16 rounding and takes the low byte: that is rint
// where in range.
TEST(QqqLayout, T10_Binary16TrickIsRounding) {
  int64_t checked = 0;
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const Half s{static_cast<uint16_t>(bits)};
    for (int u = 0; u < 16; ++u) {
      const double exact = static_cast<double>(u - 8) * static_cast<double>(to_float(s));
      if (exact < -128.0 || exact >= 127.5) continue;
      const Half sum = to_half(static_cast<float>(std::nearbyint(exact + 1152.0)));  // from 1024 on in ones
      const auto low = static_cast<uint8_t>(sum.bits & 0xff);
      ASSERT_EQ(static_cast<int8_t>(low ^ 0x80), expand_grouped(u, s)) << u << " " << to_float(s);
      ++checked;
    }
  }
  EXPECT_GT(checked, 300'000);
}

}  // namespace
}  // namespace tessera::qqq
