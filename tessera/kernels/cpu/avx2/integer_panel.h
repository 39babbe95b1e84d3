// Integer products with AVX2, without VNNI. Only for avx2/kernels.cc.
//
//   acc[m][n] = sum_k codes[m][k] * w8[n][k]        codes int8, -128..127
//
// maddubs multiplies u8 by s8 and adds pairs with saturation to 16 bits, so the operands must leave room:
//
// Four bits  u in 0..15: a pair is at most 2 * 15 * 128 = 3840. Sixteen-bit sums run over a block of 32
//            inputs; they start at -zero * (the codes that the lane will meet), so that they are sums of 16
//            products (u - zero) * code, at most 16 * 15 * 128 = 30720. madd then widens, adds the pairs and
//            multiplies by the group scale in one instruction (per channel: zero 8, scale 1).
// Eight bits w8 = 16 * (h - 8) + l with the halves h, l in 0..15 of w8 + 128: two products of four bits, with
//            zero 8, scale 16 and zero 0, scale 1.
//
// Tile       3 tokens x 32 outputs: 12 sums, 3 broadcasts, 1 weight register; the 32-bit sums stay in memory,
//            touched once a block. Beyond kFusedTokens tokens the nibbles of a panel are unpacked once into
//            scratch.
// Measured   340 GOP/s at M = 512 of the 485 that maddubs with a 16-bit addition reaches in registers (one
//            thread, Zen 5, g++ 12); the usual maddubs, madd, 32-bit addition cannot exceed 265.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int kTileTokens = 3;
constexpr int64_t kFusedTokens = 12;  ///< up to here nibbles are unpacked in registers only
constexpr int64_t kChunk = 1024;      ///< inputs unpacked at once: 32 KiB of bytes
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

/// Scale and zero point of 4 x 8 outputs, both 16-bit halves of a lane alike.
struct BlockScales {
  __m256i scale[4], zero[4];
};

inline __m256i widen_to_pairs(const uint8_t* p) {
  const __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_or_si256(x, _mm256_slli_epi32(x, 16));
}

inline BlockScales constant_scales(int16_t scale, int16_t zero) {
  BlockScales s;
  for (int j = 0; j < 4; ++j) {
    s.scale[j] = _mm256_set1_epi16(scale);
    s.zero[j] = _mm256_set1_epi16(zero);
  }
  return s;
}

/// Four-bit weights of one panel as packed.
struct NibbleWeights {
  const uint8_t* codes;
  const uint8_t* groups;     ///< null: per channel
  int64_t blocks_per_group;  ///< a block is kKBlock inputs

  BlockScales scales(int64_t block) const {
    if (!groups) return constant_scales(1, 8);
    BlockScales s;
    for (int j = 0; j < 4; ++j) {
      const uint8_t* p = groups + block / blocks_per_group * 2 * kPanel + 8 * j;
      s.scale[j] = widen_to_pairs(p);
      s.zero[j] = widen_to_pairs(p + kPanel);
    }
    return s;
  }
  /// Outputs 8 j .. 8 j + 7 x 4 inputs, 0..15.
  __m256i eight(int64_t quad, int j) const {
    const uint8_t* p = codes + quad * 2 * kPanel + 32 * (j % 2);
    if (j == 0) _mm_prefetch(reinterpret_cast<const char*>(p) + kPrefetchAhead, _MM_HINT_T0);
    const __m256i both = load256(p), mask = _mm256_set1_epi8(15);
    return _mm256_and_si256(j < 2 ? both : _mm256_srli_epi16(both, 4), mask);
  }
};

/// The same, unpacked.
struct UnpackedWeights {
  const uint8_t* bytes;
  const BlockScales* block_scales;

  const BlockScales& scales(int64_t block) const { return block_scales[block]; }
  __m256i eight(int64_t quad, int j) const { return load256(bytes + quad * 4 * kPanel + 32 * j); }
};

/// One half of bytes that hold w8 + 128.
template <bool kHigh>
struct HalfByteWeights {
  const uint8_t* bytes;

  BlockScales scales(int64_t) const { return kHigh ? constant_scales(16, 8) : constant_scales(1, 0); }
  __m256i eight(int64_t quad, int j) const {
    const __m256i w = load256(bytes + quad * 4 * kPanel + 32 * j);
    return _mm256_and_si256(kHigh ? _mm256_srli_epi16(w, 4) : w, _mm256_set1_epi8(15));
  }
};

/// acc [kTokens][kPanel] += codes * weights^T over `blocks` blocks of kKBlock inputs.
template <int kTokens, class Weights>
void nibble_tile(const Weights& weights, const CodeRows& x, int64_t blocks, int32_t* acc) {
  const int64_t pair_stride = x.stride / kKBlock * 2;
  for (int64_t block = 0; block < blocks; ++block) {
    const auto& scales = weights.scales(block);
    Sums sum[kTokens][4];
    for (int t = 0; t < kTokens; ++t) {
      int32_t pair;
      __builtin_memcpy(&pair, x.pair_sum + t * pair_stride + 2 * block, 4);
      for (int j = 0; j < 4; ++j) {
        sum[t][j] = -(Sums)_mm256_mullo_epi16(scales.zero[j], _mm256_set1_epi32(pair));
      }
    }
    for (int q = 0; q < kQuads; ++q) {
      const int64_t quad = block * kQuads + q;
      __m256i codes[kTokens];
      for (int t = 0; t < kTokens; ++t) codes[t] = four_codes(x.codes + t * x.stride + 4 * quad);
      for (int j = 0; j < 4; ++j) {
        const __m256i w = weights.eight(quad, j);
        for (int t = 0; t < kTokens; ++t) sum[t][j] += (Sums)_mm256_maddubs_epi16(w, codes[t]);
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int j = 0; j < 4; ++j) {
        auto* out = reinterpret_cast<__m256i*>(acc + t * kPanel + 8 * j);
        const __m256i wide = _mm256_madd_epi16((__m256i)sum[t][j], scales.scale[j]);
        _mm256_store_si256(out, _mm256_add_epi32(_mm256_load_si256(out), wide));
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

template <class Weights>
void nibble_tiles(const Weights& weights, const CodeRows& x, int64_t m, int64_t blocks, int32_t* acc) {
  int64_t t = 0;
  for (; t + kTileTokens <= m; t += kTileTokens) {
    nibble_tile<kTileTokens>(weights, at(x, t, 0), blocks, acc + t * kPanel);
  }
  if (m - t == 2) nibble_tile<2>(weights, at(x, t, 0), blocks, acc + t * kPanel);
  if (m - t == 1) nibble_tile<1>(weights, at(x, t, 0), blocks, acc + t * kPanel);
}

void nibble_panel(const NibbleWeights& weights, int64_t k_padded, const CodeRows& x, int64_t m,
                  int32_t* acc) {
  if (m <= kFusedTokens) return nibble_tiles(weights, x, m, k_padded / kKBlock, acc);
  alignas(64) uint8_t bytes[kChunk * kPanel];
  BlockScales scales[kChunk / kKBlock];
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t first = k / kKBlock,
                  blocks = ((k + kChunk < k_padded ? k + kChunk : k_padded) - k) / kKBlock;
    for (int64_t block = 0; block < blocks; ++block) scales[block] = weights.scales(first + block);
    for (int64_t quad = 0; quad < blocks * kQuads; ++quad) {
      for (int j = 0; j < 4; ++j) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(bytes + quad * 4 * kPanel + 32 * j),
                           weights.eight(first * kQuads + quad, j));
      }
    }
    nibble_tiles(UnpackedWeights{bytes, scales}, at(x, 0, k), m, blocks, acc);
  }
}

void byte_panel(const uint8_t* codes, int64_t k_padded, const CodeRows& x, int64_t m, int32_t* acc) {
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t blocks = ((k + kChunk < k_padded ? k + kChunk : k_padded) - k) / kKBlock;
    const CodeRows rows = at(x, 0, k);
    nibble_tiles(HalfByteWeights<false>{codes + k * kPanel}, rows, m, blocks, acc);
    nibble_tiles(HalfByteWeights<true>{codes + k * kPanel}, rows, m, blocks, acc);
  }
}

void integer_panel(const PackedPanel& panel, const CodeRows& x, int64_t m, int32_t* acc) {
  __builtin_memset(acc, 0, sizeof(int32_t) * static_cast<size_t>(m * kPanel));
  if (panel.layout == PackedLayout::kByte) return byte_panel(panel.codes, panel.k_padded, x, m, acc);
  NibbleWeights nibbles{panel.codes, nullptr, 1};
  if (panel.layout == PackedLayout::kNibbleGrouped) {
    nibbles.groups = panel.groups;
    nibbles.blocks_per_group = panel.group_size / kKBlock;
  }
  nibble_panel(nibbles, panel.k_padded, x, m, acc);
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
