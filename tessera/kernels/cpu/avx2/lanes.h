// Sixteen floats in two AVX2 registers. Only for avx2/kernels.cc.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tessera/base/dtype.h"

namespace tessera {
namespace {

/// Register tile of the float product, rows and Lanes wide: 6 x 2 accumulators, 2 weights, 1 broadcast of 16
/// registers.
constexpr int kTileRows = 6, kTileHalves = 1;
/// Sums that the dot-product form keeps in registers at once.
constexpr int kDotSums = 4;

/// The first `count` of 16 lanes.
struct Some {
  explicit Some(int64_t n) : count(n) {}
  int64_t count;
};

struct Lanes {
  __m256 lo, hi;

  static Lanes set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Lanes load(const Half* p) { return {_mm256_cvtph_ps(eight(p)), _mm256_cvtph_ps(eight(p + 8))}; }
  static Lanes load(const BFloat16* p) { return {from_bfloat16(eight(p)), from_bfloat16(eight(p + 8))}; }
  /// The other lanes become 0.
  template <class T>
  static Lanes load(const T* p, Some some) {
    T copy[16] = {};
    __builtin_memcpy(copy, p, static_cast<size_t>(some.count) * sizeof(T));
    return load(copy);
  }
  static Lanes from_int(const int32_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
            _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8)))};
  }
  /// Sixteen words of 32 bits, shifted right and masked.
  static Lanes from_words(const uint8_t* p, int shift, int32_t mask) {
    const auto eight_words = [&](const uint8_t* q) {
      return field(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)), shift, mask);
    };
    return {eight_words(p), eight_words(p + 32)};
  }
  /// The same with a mask of 15.
  static Lanes from_nibbles(const uint8_t* p, int shift) { return from_words(p, shift, 15); }
  /// The same with bytes; the other lanes become 0.
  static Lanes from_bytes(const uint8_t* p, int shift, int32_t mask, Some some = Some(16)) {
    uint8_t copy[16] = {};
    __builtin_memcpy(copy, p, static_cast<size_t>(some.count));
    const __m128i bytes = eight(copy);
    return {field(_mm256_cvtepu8_epi32(bytes), shift, mask),
            field(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)), shift, mask)};
  }

  void store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }
  void store(Half* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(hi, _MM_FROUND_TO_NEAREST_INT));
  }
  template <class T>
  void store(T* p, Some some) const {
    T copy[16];
    store(copy);
    __builtin_memcpy(p, copy, static_cast<size_t>(some.count) * sizeof(T));
  }
  /// Integral values within int8.
  void store_codes(int8_t* p) const {
    // packs works on 128-bit halves; the permutation restores the order.
    const __m256i words =
        _mm256_permute4x64_epi64(_mm256_packs_epi32(_mm256_cvtps_epi32(lo), _mm256_cvtps_epi32(hi)), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  void store_codes(int8_t* p, Some some) const {
    int8_t copy[16];
    store_codes(copy);
    __builtin_memcpy(p, copy, static_cast<size_t>(some.count));
  }

  Lanes abs() const {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, lo), _mm256_andnot_ps(sign, hi)};
  }
  /// To the nearest integer, ties to even.
  Lanes round() const {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(lo, kNearest), _mm256_round_ps(hi, kNearest)};
  }
  /// 2^n for integral n in [-126, 127].
  static Lanes power_of_two(Lanes n) {
    const auto power = [](__m256 x) {
      const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
      return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
    };
    return {power(n.lo), power(n.hi)};
  }

 private:
  static __m256 field(__m256i words, int shift, int32_t mask) {
    const __m256i shifted = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift));
    return _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(mask)));
  }
  template <class T>
  static __m128i eight(const T* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static __m256 from_bfloat16(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
};

inline Lanes operator+(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline Lanes operator-(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline Lanes operator*(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline Lanes operator/(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
/// Both give b where a lane is not a number.
inline Lanes min(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
inline Lanes max(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
/// a where x < 0, else b.
inline Lanes where_negative(Lanes x, Lanes a, Lanes b) {
  const __m256 zero = _mm256_setzero_ps();
  return {_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, zero, _CMP_LT_OQ)),
          _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, zero, _CMP_LT_OQ))};
}
/// a * b + c, rounded once.
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

/// Lane j of a[i] becomes lane i of a[j], for 8 x 8.
inline void transpose8(__m256 (&a)[8]) {
  __m256 t[8];  // 128-bit half h of t[4 i + j]: column 4 h + j of rows 4 i .. 4 i + 3
  for (int i = 0; i < 8; i += 4) {
    const __m256d lo01 = _mm256_castps_pd(_mm256_unpacklo_ps(a[i], a[i + 1]));
    const __m256d hi01 = _mm256_castps_pd(_mm256_unpackhi_ps(a[i], a[i + 1]));
    const __m256d lo23 = _mm256_castps_pd(_mm256_unpacklo_ps(a[i + 2], a[i + 3]));
    const __m256d hi23 = _mm256_castps_pd(_mm256_unpackhi_ps(a[i + 2], a[i + 3]));
    t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(lo01, lo23));
    t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(lo01, lo23));
    t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(hi01, hi23));
    t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(hi01, hi23));
  }
  for (int j = 0; j < 4; ++j) {
    a[j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x20);
    a[4 + j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x31);
  }
}

/// The same for 16 x 16: four blocks, of which those off the diagonal trade places.
inline void transpose(Lanes (&a)[16]) {
  __m256 blocks[2][2][8];
  for (int i = 0; i < 16; ++i) {
    blocks[i / 8][0][i % 8] = a[i].lo;
    blocks[i / 8][1][i % 8] = a[i].hi;
  }
  for (auto& row : blocks) {
    for (auto& block : row) transpose8(block);
  }
  for (int i = 0; i < 16; ++i) a[i] = {blocks[0][i / 8][i % 8], blocks[1][i / 8][i % 8]};
}

}  // namespace
}  // namespace tessera
