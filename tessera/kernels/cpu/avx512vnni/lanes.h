// Sixteen floats in one AVX-512 register. Only for avx512vnni/kernels.cc.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tessera/base/dtype.h"

namespace tessera {
namespace {

/// Register tile of the float product, rows and Lanes wide: 12 x 2 accumulators, 2 weights, 1 broadcast of 32
/// registers.
constexpr int kTileRows = 12, kTileHalves = 2;
/// Sums that the dot-product form keeps in registers at once.
constexpr int kDotSums = 16;

/// The first `count` of 16 lanes.
struct Some {
  explicit Some(int64_t n) : count(n), mask(static_cast<__mmask16>((1u << n) - 1u)) {}
  int64_t count;
  __mmask16 mask;
};

struct Lanes {
  __m512 v;

  static Lanes set(float x) { return {_mm512_set1_ps(x)}; }
  static Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Lanes load(const Half* p) {
    return from_half(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Lanes load(const BFloat16* p) {
    return from_bfloat16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  /// The other lanes become 0.
  static Lanes load(const float* p, Some some) { return {_mm512_maskz_loadu_ps(some.mask, p)}; }
  static Lanes load(const Half* p, Some some) { return from_half(_mm256_maskz_loadu_epi16(some.mask, p)); }
  static Lanes load(const BFloat16* p, Some some) {
    return from_bfloat16(_mm256_maskz_loadu_epi16(some.mask, p));
  }
  static Lanes from_int(const int32_t* p) { return {_mm512_cvtepi32_ps(_mm512_loadu_si512(p))}; }
  /// Sixteen words of 32 bits, shifted right and masked.
  static Lanes from_words(const uint8_t* p, int shift, int32_t mask) {
    return field(_mm512_loadu_si512(p), shift, mask);
  }
  /// The same with a mask of 15: a look-up that reads only the low four bits of a lane.
  static Lanes from_nibbles(const uint8_t* p, int shift) {
    const __m512 values = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return {_mm512_permutexvar_ps(_mm512_srl_epi32(_mm512_loadu_si512(p), _mm_cvtsi32_si128(shift)), values)};
  }
  /// The same with bytes; the other lanes become 0.
  static Lanes from_bytes(const uint8_t* p, int shift, int32_t mask, Some some = Some(16)) {
    return field(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some.mask, p)), shift, mask);
  }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, Some some) const { _mm512_mask_storeu_ps(p, some.mask, v); }
  void store(Half* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  void store(Half* p, Some some) const {
    _mm256_mask_storeu_epi16(p, some.mask, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  /// Integral values within int8.
  void store_codes(int8_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }
  void store_codes(int8_t* p, Some some) const {
    _mm512_mask_cvtepi32_storeu_epi8(p, some.mask, _mm512_cvtps_epi32(v));
  }

  Lanes abs() const { return {_mm512_abs_ps(v)}; }
  /// To the nearest integer, ties to even.
  Lanes round() const { return {_mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  /// 2^n for integral n in [-126, 127].
  static Lanes power_of_two(Lanes n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
  }

 private:
  static Lanes field(__m512i words, int shift, int32_t mask) {
    const __m512i shifted = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift));
    return {_mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(mask)))};
  }
  static Lanes from_half(__m256i bits) { return {_mm512_cvtph_ps(bits)}; }
  static Lanes from_bfloat16(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
};

inline Lanes operator+(Lanes a, Lanes b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline Lanes operator-(Lanes a, Lanes b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline Lanes operator*(Lanes a, Lanes b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline Lanes operator/(Lanes a, Lanes b) {
  return {_mm512_div_ps(a.v, b.v)};
}
/// Both give b where a lane is not a number.
inline Lanes min(Lanes a, Lanes b) {
  return {_mm512_min_ps(a.v, b.v)};
}
inline Lanes max(Lanes a, Lanes b) {
  return {_mm512_max_ps(a.v, b.v)};
}
/// a where x < 0, else b.
inline Lanes where_negative(Lanes x, Lanes a, Lanes b) {
  return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), a.v)};
}
/// a * b + c, rounded once.
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
/// Lane j of a[i] becomes lane i of a[j].
inline void transpose(Lanes (&a)[16]) {
  __m512 t[16];  // 128-bit part p of t[4 i + j]: column 4 p + j of rows 4 i .. 4 i + 3
  for (int i = 0; i < 16; i += 4) {
    const __m512d lo01 = _mm512_castps_pd(_mm512_unpacklo_ps(a[i].v, a[i + 1].v));
    const __m512d hi01 = _mm512_castps_pd(_mm512_unpackhi_ps(a[i].v, a[i + 1].v));
    const __m512d lo23 = _mm512_castps_pd(_mm512_unpacklo_ps(a[i + 2].v, a[i + 3].v));
    const __m512d hi23 = _mm512_castps_pd(_mm512_unpackhi_ps(a[i + 2].v, a[i + 3].v));
    t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo01, lo23));
    t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo01, lo23));
    t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(hi01, hi23));
    t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(hi01, hi23));
  }
  constexpr int kEven = 0x88, kOdd = 0xdd;  // 128-bit parts 0 and 2, or 1 and 3, of both operands
  for (int j = 0; j < 4; ++j) {
    const __m512 even_lo = _mm512_shuffle_f32x4(t[j], t[4 + j], kEven);
    const __m512 even_hi = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], kEven);
    const __m512 odd_lo = _mm512_shuffle_f32x4(t[j], t[4 + j], kOdd);
    const __m512 odd_hi = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], kOdd);
    a[j].v = _mm512_shuffle_f32x4(even_lo, even_hi, kEven);
    a[4 + j].v = _mm512_shuffle_f32x4(odd_lo, odd_hi, kEven);
    a[8 + j].v = _mm512_shuffle_f32x4(even_lo, even_hi, kOdd);
    a[12 + j].v = _mm512_shuffle_f32x4(odd_lo, odd_hi, kOdd);
  }
}

}  // namespace
}  // namespace tessera
