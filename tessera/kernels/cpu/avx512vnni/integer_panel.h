// Integer products with AVX-512 VNNI. Only for avx512vnni/kernels.cc.
//
//   acc[m][n] = sum_k codes[m][k] * w8[n][k]        codes int8, -128..127
//
// vpdpbusd adds four products u8 * s8 a lane. The unsigned operand is the weight plus an offset (w8 + 128, or
// the nibble w + 8), the signed one four codes of a token broadcast to all lanes, so that 16 outputs advance
// by four inputs; acc starts at -offset * sum_k codes[m][k], which cancels the offset exactly.
//
// Tile      12 tokens x 32 outputs: 24 accumulators, 2 weight registers, 1 broadcast. A step of 4 inputs is
//           24 vpdpbusd on two ports (12 cycles on Zen 5) and 13 or 14 loads on two (7 cycles).
// Expansion nibbles per channel: AND, shift (4-bit codes reach vpdpbusd as 0..15). Groups: with U the four
//           nibbles of a lane, scale * U + A, A = 0x80808080 - scale * zero * 0x01010101, all mod 2^32, has
//           w8 + 128 in every byte, exactly, because each of them fits a byte. Beyond kFusedTokens tokens the
//           expansion is done once a panel and chunk of K, into scratch that stays in L1 and L2.
// Range     |acc| <= 128 * 128 * K < 2^31 for K <= 131071; wrap-around on the way there is harmless.
// Bound     by memory up to about 6 tokens a thread (1.06 TOPS against 42 GB/s), then by vpdpbusd.
// Tried     (K = N = 4096, one thread of a Zen 5 at 1.06 TOPS; g++ 12)
//           - expanding per-channel nibbles into scratch too: 910 GOP/s at M = 512 and 590 at M = 16, where
//             registers give 965 and 905: they halve the loads of weights and overlap them with the products;
//           - groups of 128 in registers at every M: 850, because the two vpmulld a step need the ports of
//             vpdpbusd; in scratch without prefetching what is expanded next: 890, and 720 at M = 32; with
//             it: 945 and 890;
//           - scratch of 16, 64 and 128 KiB instead of 32: within 2 %.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int64_t kMaxTileTokens = 12;
constexpr int kQuads = kKBlock / 4;
constexpr int64_t kChunk = 1024;          ///< inputs expanded at once: 32 KiB of bytes
constexpr int64_t kFusedTokens = 24;      ///< up to here nibbles are expanded in registers only
constexpr int64_t kPrefetchAhead = 4096;  ///< bytes; hardware prefetchers stop at every page

/// Sixteen 32-bit sums. (Not __m512i: as soon as one place reads it as 32-bit integers and another as a
/// whole, g++ 12 keeps an array of it in memory, and the tile runs at 40 % of its speed.)
using Sums = int32_t __attribute__((vector_size(64)));

/// Two registers of 16 outputs x 4 inputs, unsigned.
struct WeightPair {
  __m512i first, second;
};

inline void prefetch(const uint8_t* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
}

/// Bytes as packed.
struct ByteWeights {
  const uint8_t* codes;

  void begin(int64_t) {}
  void enter_block() {}
  WeightPair quad(int64_t i) const {
    const uint8_t* p = codes + i * 4 * kPanel;
    prefetch(p + kPrefetchAhead);
    prefetch(p + kPrefetchAhead + 64);
    return {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)};
  }
};

/// Bytes in scratch. While they are multiplied, the nibbles that are expanded next come closer.
struct ExpandedWeights {
  const uint8_t* bytes;
  const uint8_t* next;

  void begin(int64_t) {}
  void enter_block() {}
  WeightPair quad(int64_t i) const {
    prefetch(next + i * 2 * kPanel);
    return {_mm512_load_si512(bytes + i * 4 * kPanel), _mm512_load_si512(bytes + i * 4 * kPanel + 64)};
  }
};

struct NibbleWeights {
  const uint8_t* codes;

  void begin(int64_t) {}
  void enter_block() {}
  WeightPair quad(int64_t i) const {
    const uint8_t* p = codes + i * 2 * kPanel;
    prefetch(p + kPrefetchAhead);
    const __m512i both = _mm512_loadu_si512(p), mask = _mm512_set1_epi8(15);
    return {_mm512_and_si512(both, mask), _mm512_and_si512(_mm512_srli_epi16(both, 4), mask)};
  }
};

struct GroupedWeights {
  NibbleWeights nibbles;
  const uint8_t* groups;
  int64_t blocks_per_group;
  int64_t group = 0, blocks_left = 0;
  __m512i scale[2] = {}, offset[2] = {};

  /// Blocks of kKBlock inputs follow one another from `first_block` on.
  void begin(int64_t first_block) {
    group = first_block / blocks_per_group;
    blocks_left = blocks_per_group - first_block % blocks_per_group;
    load_group();
  }
  void enter_block() {
    if (blocks_left == 0) {
      ++group;
      blocks_left = blocks_per_group;
      load_group();
    }
    --blocks_left;
  }
  void load_group() {
    const uint8_t* p = groups + group * 2 * kPanel;
    for (int half = 0; half < 2; ++half) {
      scale[half] = widen(p + 16 * half);
      const __m512i zero = _mm512_mullo_epi32(widen(p + kPanel + 16 * half), _mm512_set1_epi32(0x01010101));
      offset[half] = _mm512_sub_epi32(_mm512_set1_epi32(static_cast<int>(0x80808080)),
                                      _mm512_mullo_epi32(zero, scale[half]));
    }
  }
  WeightPair quad(int64_t i) const {
    const WeightPair u = nibbles.quad(i);
    return {_mm512_add_epi32(_mm512_mullo_epi32(u.first, scale[0]), offset[0]),
            _mm512_add_epi32(_mm512_mullo_epi32(u.second, scale[1]), offset[1])};
  }
  static __m512i widen(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};

inline __m512i four_codes(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

/// acc [kTokens][kPanel] += codes * weights^T over `blocks` blocks of kKBlock inputs. With few tokens
/// consecutive quads of inputs go to separate accumulators, which hides the latency of vpdpbusd.
template <int kTokens, class Weights>
void tile(Weights weights, const int8_t* codes, int64_t stride, int64_t blocks, int32_t* acc) {
  constexpr int kInterleave = kTokens == 1 ? 4 : kTokens == 2 ? 2 : 1;
  Sums sum[kInterleave][kTokens][2] = {};
  weights.begin(0);
  for (int64_t block = 0; block < blocks; ++block) {
    weights.enter_block();
    for (int step = 0; step < kQuads; step += kInterleave) {
#pragma GCC unroll 4  // otherwise g++ 12 leaves the sums in memory when there is one token
      for (int i = 0; i < kInterleave; ++i) {
        const int64_t quad = block * kQuads + step + i;
        const WeightPair w = weights.quad(quad);
        for (int t = 0; t < kTokens; ++t) {
          const __m512i x = four_codes(codes + t * stride + 4 * quad);
          sum[i][t][0] = (Sums)_mm512_dpbusd_epi32((__m512i)sum[i][t][0], w.first, x);
          sum[i][t][1] = (Sums)_mm512_dpbusd_epi32((__m512i)sum[i][t][1], w.second, x);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int half = 0; half < 2; ++half) {
      auto* out = reinterpret_cast<Sums*>(acc + t * kPanel + 16 * half);
      for (int i = 0; i < kInterleave; ++i) *out += sum[i][t][half];
    }
  }
}

/// Runs tile() with a token count known to the compiler.
template <class Weights, int kTokens = kMaxTileTokens>
void tile_of(int64_t tokens, const Weights& weights, const int8_t* codes, int64_t stride, int64_t blocks,
             int32_t* acc) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) return tile_of<Weights, kTokens - 1>(tokens, weights, codes, stride, blocks, acc);
  }
  tile<kTokens>(weights, codes, stride, blocks, acc);
}

/// All m tokens, in tiles of nearly equal height.
template <class Weights>
void tiles(const Weights& weights, const int8_t* codes, int64_t stride, int64_t m, int64_t blocks,
           int32_t* acc) {
  const int64_t count = (m + kMaxTileTokens - 1) / kMaxTileTokens;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = m * i / count, end = m * (i + 1) / count;
    tile_of(end - begin, weights, codes + begin * stride, stride, blocks, acc + begin * kPanel);
  }
}

/// Expands blocks of grouped nibbles to bytes w8 + 128.
void expand(GroupedWeights weights, int64_t first_block, int64_t blocks, uint8_t* bytes) {
  weights.begin(first_block);
  for (int64_t block = first_block; block < first_block + blocks; ++block) {
    weights.enter_block();
    for (int64_t quad = block * kQuads; quad < (block + 1) * kQuads; ++quad) {
      const WeightPair w = weights.quad(quad);
      _mm512_store_si512(bytes, w.first);
      _mm512_store_si512(bytes + 64, w.second);
      bytes += 4 * kPanel;
    }
  }
}

void grouped_panel(const GroupedWeights& weights, int64_t k_padded, const CodeRows& x, int64_t m,
                   int32_t* acc) {
  if (m <= kFusedTokens) return tiles(weights, x.codes, x.stride, m, k_padded / kKBlock, acc);
  alignas(64) uint8_t bytes[kChunk * kPanel];
  for (int64_t k = 0; k < k_padded; k += kChunk) {
    const int64_t blocks = (k + kChunk < k_padded ? kChunk : k_padded - k) / kKBlock;
    expand(weights, k / kKBlock, blocks, bytes);
    const uint8_t* next = weights.nibbles.codes + (k / kKBlock + blocks) * kKBlock * kPanel / 2;
    tiles(ExpandedWeights{bytes, next}, x.codes + k, x.stride, m, blocks, acc);
  }
}

void integer_panel(const PackedPanel& panel, const CodeRows& x, int64_t m, int32_t* acc) {
  const int offset = panel.layout == PackedLayout::kNibble ? 8 : 128;
  for (int64_t t = 0; t < m; ++t) {
    const __m512i start = _mm512_set1_epi32(-offset * x.sum[t]);
    _mm512_store_si512(acc + t * kPanel, start);
    _mm512_store_si512(acc + t * kPanel + 16, start);
  }
  const int64_t blocks = panel.k_padded / kKBlock;
  switch (panel.layout) {
    case PackedLayout::kByte:
      return tiles(ByteWeights{panel.codes}, x.codes, x.stride, m, blocks, acc);
    case PackedLayout::kNibble:
      return tiles(NibbleWeights{panel.codes}, x.codes, x.stride, m, blocks, acc);
    case PackedLayout::kNibbleGrouped:
      return grouped_panel(GroupedWeights{{panel.codes}, panel.groups, panel.group_size / kKBlock},
                           panel.k_padded, x, m, acc);
    case PackedLayout::kNibbleFloat:
      break;  // weight-only
  }
}

/// Fills x.sum[0].
void sum_codes(int64_t k_padded, const CodeRows& x) {
  __m256i sum = _mm256_setzero_si256();
  for (int64_t k = 0; k < k_padded; k += 32) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.codes + k));
    sum = _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(1), codes);
  }
  const __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  const __m128i eighth = _mm_add_epi32(quarter, _mm_shuffle_epi32(quarter, 0x4e));
  x.sum[0] = _mm_cvtsi128_si32(_mm_add_epi32(eighth, _mm_shuffle_epi32(eighth, 0xb1)));
}

/// Zeros, but unknown to the compiler.
inline Sums opaque_zeros() {
  Sums zeros = {};
  asm volatile("" : "+v"(zeros));
  return zeros;
}

/// vpdpbusd, 64 products each.
int64_t integer_peak(int64_t rounds) {
  constexpr int kSums = 16;
  Sums sum[kSums];
  for (Sums& s : sum) s = opaque_zeros();
  const __m512i w = _mm512_set1_epi8(1);
  for (int64_t round = 0; round < rounds; ++round) {
    for (Sums& s : sum) s = (Sums)_mm512_dpbusd_epi32((__m512i)s, w, w);
  }
  for (int i = 1; i < kSums; ++i) sum[0] += sum[i];
  volatile int32_t sink = sum[0][0];
  static_cast<void>(sink);
  return rounds * kSums * 64 * 2;
}

}  // namespace
}  // namespace tessera
