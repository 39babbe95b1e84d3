// Integer products with AVX2, without VNNI. Only for avx2/kernels.cc.
//
//   acc[m][n] = sum_k codes[m][k] * w8[n][k]        codes int8, -128..127
//
// maddubs multiplies u8 by s8 and adds pairs with saturation to 16 bits, so the operands must leave room:
//
// Four bits  u in 0..15: a pair is at most 2 * 15 * 128 = 3840. Sixteen-bit sums run over a block of 32
//            inputs: 16 products u * code, at most 16 * 15 * 128 = 30720. madd then widens, adds the pairs
//            and multiplies by the group scale in one instruction (per channel: 1). With groups the sums
//            start at -zero * (the codes that the lane will meet), so that the products are (u - zero) *
//            code; per channel the 32-bit sums start at -8 * (all codes of the token).
// Eight bits w8 + 128 = 16 * h + l with the halves h, l in 0..15: two products of four bits, with scales 16
// and
//            1, from -128 * (all codes).
//
// Tile       up to 6 tokens x 16 outputs, whose nibbles are the two halves of 32 bytes: 12 sums, 2 weight
//            registers, a broadcast, a product; 1 or 2 tokens take all 32 outputs. The 32-bit sums stay in
//            memory, touched once a block.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int kTileTokens = 6;
constexpr int64_t kChunk = 1024;  ///< inputs whose weights serve all tokens from the first cache
constexpr int kQuads = kKBlock / 4;
constexpr int64_t kPrefetchAhead = 2048;  ///< bytes; hardware prefetchers stop at every page

/// Sixteen 16-bit sums. (Not __m256i: as soon as one place reads it as integers and another as a whole, g++
/// 12 keeps an array of it in memory.)
using Sums = int16_t __attribute__((vector_size(32)));

inline __m256i load256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline __m256i four_codes(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

/// Eight parameters of a group, both 16-bit halves of a lane alike.
inline __m256i widen_to_pairs(const uint8_t* p) {
  const __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_or_si256(x, _mm256_slli_epi32(x, 16));
}

/// -zero * the sums of codes that the lanes will meet.
inline Sums start_of(__m256i minus_zero, __m256i pair_sums) {
  return (Sums)_mm256_mullo_epi16(minus_zero, pair_sums);
}

/// One scale for all outputs.
template <int kScale>
struct OneScale {
  __m256i scale(int64_t /*block*/, int /*j*/) const { return _mm256_set1_epi16(kScale); }
  Sums start(int64_t /*block*/, int /*j*/, __m256i /*pair_sums*/) const { return Sums{}; }
};

/// Those of the groups of a chunk.
class GroupScales {
 public:
  /// `groups`: as packed, from the chunk's first block on.
  GroupScales(const uint8_t* groups, int64_t blocks_per_group, int64_t first, int64_t blocks)
      : blocks_per_group_(blocks_per_group), first_(first % blocks_per_group) {
    const uint8_t* p = groups + first / blocks_per_group * 2 * kPanel;
    for (int64_t g = 0; g * blocks_per_group < first_ + blocks; ++g, p += 2 * kPanel) {
      for (int j = 0; j < 4; ++j) {
        scale_[g][j] = widen_to_pairs(p + 8 * j);
        minus_zero_[g][j] = _mm256_sub_epi16(_mm256_setzero_si256(), widen_to_pairs(p + kPanel + 8 * j));
      }
    }
  }

  __m256i scale(int64_t block, int j) const { return scale_[group(block)][j]; }
  Sums start(int64_t block, int j, __m256i pair_sums) const {
    return start_of(minus_zero_[group(block)][j], pair_sums);
  }

 private:
  int64_t group(int64_t block) const { return (first_ + block) / blocks_per_group_; }

  int64_t blocks_per_group_, first_;  ///< of its group, the chunk's first block
  __m256i scale_[kChunk / kKBlock + 1][4], minus_zero_[kChunk / kKBlock + 1][4];
};

// Weights of a panel: outputs 8 h .. + 7 and 8 (h + 2) .. + 7, h = 0 or 1, x 4 inputs, 0..15.

/// Four-bit weights as packed.
struct Nibbles {
  const uint8_t* codes;

  void load(int64_t quad, int h, __m256i (&w)[2]) const {
    const uint8_t* p = codes + quad * 2 * kPanel + 32 * h;
    if (h == 0) _mm_prefetch(reinterpret_cast<const char*>(p) + kPrefetchAhead, _MM_HINT_T0);
    const __m256i both = load256(p), mask = _mm256_set1_epi8(15);
    w[0] = _mm256_and_si256(both, mask);
    w[1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
  }
};

/// One half of bytes that hold w8 + 128.
template <bool kHigh>
struct HalfBytes {
  const uint8_t* bytes;

  void load(int64_t quad, int h, __m256i (&w)[2]) const {
    for (int i = 0; i < 2; ++i) {
      const __m256i both = load256(bytes + quad * 4 * kPanel + 32 * (h + 2 * i));
      w[i] = _mm256_and_si256(kHigh ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
    }
  }
};

/// acc [kTokens][kPanel] += codes * weights^T over `blocks` blocks of kKBlock inputs.
template <int kTokens, class Weights, class Scales>
void nibble_tile(const Weights& weights, const Scales& scales, const CodeRows& x, int64_t blocks,
                 int32_t* acc) {
  constexpr int kHalves = kTokens <= 2 ? 2 : 1;  // at once: what the registers hold
  const int64_t pair_stride = x.stride / kKBlock * 2;
  for (int64_t block = 0; block < blocks; ++block) {
    for (int first = 0; first < 2; first += kHalves) {
      Sums sum[kTokens][kHalves][2];
      for (int t = 0; t < kTokens; ++t) {
        int32_t pair;
        __builtin_memcpy(&pair, x.pair_sum + t * pair_stride + 2 * block, 4);
        for (int h = 0; h < kHalves; ++h) {
          for (int i = 0; i < 2; ++i)
            sum[t][h][i] = scales.start(block, first + h + 2 * i, _mm256_set1_epi32(pair));
        }
      }
      for (int q = 0; q < kQuads; ++q) {
        const int64_t quad = block * kQuads + q;
        __m256i w[kHalves][2];
        for (int h = 0; h < kHalves; ++h) weights.load(quad, first + h, w[h]);
        for (int t = 0; t < kTokens; ++t) {
          const __m256i codes = four_codes(x.codes + t * x.stride + 4 * quad);
          for (int h = 0; h < kHalves; ++h) {
            for (int i = 0; i < 2; ++i) sum[t][h][i] += (Sums)_mm256_maddubs_epi16(w[h][i], codes);
          }
        }
      }
      for (int h = 0; h < kHalves; ++h) {
        for (int i = 0; i < 2; ++i) {
          const int j = first + h + 2 * i;
          const __m256i scale = scales.scale(block, j);
          for (int t = 0; t < kTokens; ++t) {
            auto* out = reinterpret_cast<__m256i*>(acc + t * kPanel + 8 * j);
            const __m256i wide = _mm256_madd_epi16((__m256i)sum[t][h][i], scale);
            _mm256_store_si256(out, _mm256_add_epi32(_mm256_load_si256(out), wide));
          }
        }
      }
    }
  }
}

/// The rows from `token` and column k on.
CodeRows at(const CodeRows& x, int64_t token, int64_t k) {
  CodeRows rows = x.from(token);
  rows.codes += k;
  rows.pair_sum += k / kKBlock * 2;
  return rows;
}

/// m tokens in tiles of equal height, more or less.
template <class Weights, class Scales>
void nibble_tiles(const Weights& weights, const Scales& scales, const CodeRows& x, int64_t m, int64_t blocks,
                  int32_t* acc) {
  int64_t tiles = (m + kTileTokens - 1) / kTileTokens;
  for (int64_t t = 0; t < m; --tiles) {
    const int64_t tokens = (m - t + tiles - 1) / tiles;
    const auto run = [&]<int kTokens>(std::integral_constant<int, kTokens>) {
      nibble_tile<kTokens>(weights, scales, at(x, t, 0), blocks, acc + t * kPanel);
    };
    switch (tokens) {
      case 1:
        run(std::integral_constant<int, 1>());
        break;
      case 2:
        run(std::integral_constant<int, 2>());
        break;
      case 3:
        run(std::integral_constant<int, 3>());
        break;
      case 4:
        run(std::integral_constant<int, 4>());
        break;
      case 5:
        run(std::integral_constant<int, 5>());
        break;
      default:
        run(std::integral_constant<int, 6>());
    }
    t += tokens;
  }
}

void integer_panel(const PackedPanel& panel, const CodeRows& x, int64_t m, int32_t* acc) {
  const int32_t zero = panel.layout == PackedLayout::kByte     ? 128
                       : panel.layout == PackedLayout::kNibble ? 8
                                                               : 0;
  for (int64_t t = 0; t < m; ++t) {
    const __m256i start = _mm256_set1_epi32(-zero * x.sum[t]);
    for (int j = 0; j < 4; ++j)
      _mm256_store_si256(reinterpret_cast<__m256i*>(acc + t * kPanel + 8 * j), start);
  }
  for (int64_t k = 0; k < panel.k_padded; k += kChunk) {
    const int64_t end = k + kChunk < panel.k_padded ? k + kChunk : panel.k_padded,
                  blocks = (end - k) / kKBlock;
    const CodeRows rows = at(x, 0, k);
    if (panel.layout == PackedLayout::kByte) {
      const uint8_t* const bytes = panel.codes + k * kPanel;
      nibble_tiles(HalfBytes<false>{bytes}, OneScale<1>(), rows, m, blocks, acc);
      nibble_tiles(HalfBytes<true>{bytes}, OneScale<16>(), rows, m, blocks, acc);
      continue;
    }
    const Nibbles nibbles{panel.codes + k * kPanel / 2};
    if (panel.layout == PackedLayout::kNibble) {
      nibble_tiles(nibbles, OneScale<1>(), rows, m, blocks, acc);
    } else {
      const GroupScales scales(panel.groups, panel.group_size / kKBlock, k / kKBlock, blocks);
      nibble_tiles(nibbles, scales, rows, m, blocks, acc);
    }
  }
}

/// Fills x.sum[0] and x.pair_sum.
void sum_codes(int64_t k_padded, const CodeRows& x) {
  x.sum[0] = 0;
  for (int64_t block = 0; block < k_padded / kKBlock; ++block) {
    // Lane i: codes 2 i and 2 i + 1; even lanes have k % 4 < 2.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), load256(x.codes + block * kKBlock));
    const __m128i half = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    const __m128i quarter = _mm_add_epi16(half, _mm_shuffle_epi32(half, 0x4e));
    const int32_t both = _mm_cvtsi128_si32(_mm_add_epi16(quarter, _mm_shuffle_epi32(quarter, 0xb1)));
    __builtin_memcpy(x.pair_sum + 2 * block, &both, 4);
    x.sum[0] += x.pair_sum[2 * block] + x.pair_sum[2 * block + 1];
  }
}

/// The same value, but unknown to the compiler.
inline __m256i opaque(__m256i x) {
  asm volatile("" : "+x"(x));
  return x;
}

/// maddubs and a 16-bit addition, 32 products each.
int64_t integer_peak(int64_t rounds) {
  constexpr int kSums = 12;
  Sums sum[kSums] = {};
  const __m256i w = _mm256_set1_epi8(1);
  for (int64_t round = 0; round < rounds; ++round) {
    for (Sums& s : sum) s += (Sums)_mm256_maddubs_epi16(opaque(w), w);
  }
  for (int i = 1; i < kSums; ++i) sum[0] += sum[i];
  volatile int16_t sink = sum[0][0];
  static_cast<void>(sink);
  return rounds * kSums * 32 * 2;
}

}  // namespace
}  // namespace tessera
