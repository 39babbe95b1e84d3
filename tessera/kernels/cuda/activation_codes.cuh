// Codes and scales of a row in registers.
//   rounding  conversions run at an eighth of the rate of additions: adding 1.5 * 2^23 rounds to the nearest
//             integer, whose two's complement then is the low bits of the float
#pragma once

#include "tessera/kernels/cuda/activation.h"
#include "tessera/kernels/cuda/activation_row.cuh"

namespace tessera::cuda {

constexpr float kRoundingShift = 0x1.8p23f;

/// rint(v) + 1.5 * 2^23 for |v| < 2^22
__device__ __forceinline__ float shifted(float v) {
  return __fadd_rn(v, kRoundingShift);
}

/// Stores the low bytes of a run.
__device__ __forceinline__ void store_codes(int8_t* to, const float (&v)[kRun]) {
  uint32_t words[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const auto bits = [&](int j) { return __float_as_uint(v[4 * i + j]); };
    words[i] =
        __byte_perm(__byte_perm(bits(0), bits(1), 0x0040), __byte_perm(bits(2), bits(3), 0x0040), 0x5410);
  }
  *reinterpret_cast<uint2*>(to) = {words[0], words[1]};
}

/// Calls code(run) for the runs of a row that exist and stores what it leaves.
template <bool kWhole, class V, int kRuns, class Function>
__device__ __forceinline__ void store_row(const ActivationProblem& p, int64_t token, const Row<V, kRuns>& row,
                                          Function code) {
  int8_t* const to = p.codes + token * p.codes_stride + row.first();
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    if (!kWhole && !row.exists(i, static_cast<int>(p.k))) continue;
    float values[kRun];
    row.get(i, values);
    code(values, row.first(i));
    store_codes(to + i * kWarpRun, values);
  }
}

/// Quantizes `factor` times the row. kExact: products are rounded before they are rounded to integers, as in
/// format/reference.h; one instruction more an input.
template <bool kWhole, bool kExact, class V, int kRuns, class AnyReducer>
__device__ __forceinline__ void quantize_symmetric(const ActivationProblem& p, int64_t token, float factor,
                                                   AnyReducer& reduce, Row<V, kRuns>& row,
                                                   const uint8_t* repeat = nullptr) {
  const float most = reduce.max(row.most()), scaled = most * factor;
  const bool finite = scaled < INFINITY, zero = scaled < 0x1p-100f;
  const auto qmax = static_cast<float>((1 << (p.bits - 1)) - 1);
  const float inverse = zero || !finite ? 0 : __fdiv_rn(qmax, most);
  if (!finite) row = {};
  store_row<kWhole>(p, token, row, [&](float(&y)[kRun], int at) {
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      y[j] = kExact ? shifted(__fmul_rn(y[j], inverse)) : __fmaf_rn(y[j], inverse, kRoundingShift);
      if (repeat) y[j] = shifted((y[j] - kRoundingShift) * repeat[at + j]);
    }
  });
  if (threadIdx.x > 0) return;
  p.scale[token] = !finite ? NAN : zero ? 0 : __fdiv_rn(scaled, qmax);
  if (p.zero) p.zero[token] = 0;
}

/// rint(x / divisor) + 1.5 * 2^23 for each x, the quotient rounded correctly before it is rounded to an
/// integer. Bounds on the quotient, 2^-22 of it on either side, nearly always round to the same integer; only
/// where they do not, the run is divided.
struct Quotient {
  float divisor, above, below;

  __device__ __forceinline__ explicit Quotient(float by) : divisor(by) {
    const bool reciprocal_exists = by < 0x1p120f;  // as a normal number; otherwise bounds that never agree
    const float reciprocal = __frcp_rn(by);
    above = reciprocal_exists ? reciprocal * (1 + 0x1p-22f) : INFINITY;
    below = reciprocal_exists ? reciprocal * (1 - 0x1p-22f) : 0;
  }
  __device__ __forceinline__ void operator()(float (&x)[kRun]) const {
    float quotient[kRun];
    uint32_t differences = 0;
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      quotient[j] = __fmaf_rn(x[j], above, kRoundingShift);
      const float other = __fmaf_rn(x[j], below, kRoundingShift);
      differences |= __float_as_uint(quotient[j]) ^ __float_as_uint(other);
    }
    if (differences != 0) {
#pragma unroll
      for (int j = 0; j < kRun; ++j) quotient[j] = shifted(__fdiv_rn(x[j], divisor));
    }
#pragma unroll
    for (int j = 0; j < kRun; ++j) x[j] = quotient[j];
  }
};

/// Quantizes with the scale that all tokens share.
template <bool kWhole, int kRuns, class AnyReducer>
__device__ __forceinline__ void quantize_static(const ActivationProblem& p, int64_t token, AnyReducer& reduce,
                                                Row<float, kRuns>& row, const uint8_t* repeat = nullptr) {
  const bool finite = reduce.max(row.most()) < INFINITY;
  const auto qmax = static_cast<float>((1 << (p.bits - 1)) - 1);
  const Quotient divide(p.static_scale);
  if (!finite) row = {};
  store_row<kWhole>(p, token, row, [&](float(&y)[kRun], int at) {
#pragma unroll
    for (int j = 0; j < kRun; ++j) {  // quotients beyond the range that shifted() takes become the last code
      y[j] = fminf(fmaxf(y[j], -256 * p.static_scale), 256 * p.static_scale);
    }
    divide(y);
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      y[j] = fminf(fmaxf(y[j], kRoundingShift - qmax), kRoundingShift + qmax);
      if (repeat) y[j] = shifted((y[j] - kRoundingShift) * repeat[at + j]);
    }
  });
  if (threadIdx.x > 0) return;
  p.scale[token] = finite ? p.static_scale : NAN;
  if (p.zero) p.zero[token] = 0;
}

template <bool kWhole, class V, int kRuns, class AnyReducer>
__device__ __forceinline__ void quantize_asymmetric(const ActivationProblem& p, int64_t token,
                                                    AnyReducer& reduce, Row<V, kRuns>& row,
                                                    const uint8_t* repeat = nullptr) {
  float2 ends = reduce.max(row.extremes());  // -low and high
  const bool finite = ends.x < INFINITY && ends.y < INFINITY;
  if (!finite || ends.x + ends.y < 0x1p-100f) ends = {0, 1};
  const auto levels = static_cast<float>((1 << p.bits) - 1), half = static_cast<float>(1 << (p.bits - 1));
  const float scale = __fdiv_rn(ends.x + ends.y, levels);
  const float zero = shifted(__fdiv_rn(ends.x, scale)) - kRoundingShift;
  // Quotients are at least -zero: the quotient of `low` is its negative before rounding.
  const float greatest = kRoundingShift + (finite ? levels - zero : 0), shift = finite ? zero - half : 0;
  Quotient divide(scale);
  if (!finite) divide.above = divide.below = 0;  // 0 or NaN, which the minimum makes `greatest`: codes 0
  store_row<kWhole>(p, token, row, [&](float(&y)[kRun], int at) {
    divide(y);
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      y[j] = fminf(y[j], greatest);
      y[j] = repeat ? shifted((y[j] - kRoundingShift) * repeat[at + j]) : y[j] + shift;
    }
  });
  if (threadIdx.x > 0) return;
  p.scale[token] = finite ? scale : NAN;
  if (p.zero) p.zero[token] = repeat ? 0 : static_cast<int>(shift);
}

}  // namespace tessera::cuda
