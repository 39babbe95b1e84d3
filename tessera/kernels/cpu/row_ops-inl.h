// Norm, gated activation and quantization of one row, for every instruction set. Included once by each ISA's
// kernels.cc, behind its lanes.h; everything here has internal linkage, so no code of one ISA can be linked
// into another.
//
// The order of all float operations is the same for every ISA (16 lanes, no fused multiply-add), so all of
// them make the same codes of the same row. A row is at most some 100 KB and stays in the cache between the
// passes.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int64_t kLanes = 16;

/// body(i) or body(i, Some) for i = 0, 16, ... < n.
template <class Body>
void for_lanes(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i);
  if (i < n) body(i, Some(n - i));
}

/// The values of 16 lanes folded in halves: 0 with 8, then 0 with 4, and so on.
template <class Op>
float fold(Lanes lanes, const Op& op) {
  float v[kLanes];
  lanes.store(v);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) v[i] = op(v[i], v[i + half]);
  }
  return v[0];
}
inline float sum(Lanes lanes) {
  return fold(lanes, [](float a, float b) { return a + b; });
}
inline float highest(Lanes lanes) {
  return fold(lanes, [](float a, float b) { return a > b ? a : b; });
}
inline float lowest(Lanes lanes) {
  return fold(lanes, [](float a, float b) { return a < b ? a : b; });
}

/// Of e^r, the highest power first: for |r| <= ln 2 / 2 the remainder is below 2^-27.
constexpr float kTaylor[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};

/// e^x within 2 ulp for x in [-87, 88]; beyond, the value at the end of that interval. NaN stays NaN.
/// x = n ln 2 + r, |r| <= ln 2 / 2.
inline Lanes exponential(Lanes x) {
  x = min(Lanes::set(88.0f), max(Lanes::set(-87.0f), x));
  const Lanes n = (x * Lanes::set(1.44269504f)).round();
  const Lanes r = (x - n * Lanes::set(0.693359375f)) + n * Lanes::set(2.12194440e-4f);
  Lanes p = Lanes::set(0);
  for (float c : kTaylor) p = p * r + Lanes::set(c);
  return p * Lanes::power_of_two(n);
}

inline Lanes silu(Lanes x) {
  return x / (Lanes::set(1) + exponential(Lanes::set(0) - x));
}

/// x * Phi(x). erf by formula 7.1.26 of Abramowitz and Stegun, absolute error below 1.5e-7.
inline Lanes gelu(Lanes x) {
  const Lanes z = (x * Lanes::set(0.707106781f)).abs();
  const Lanes t = Lanes::set(1) / (Lanes::set(1) + Lanes::set(0.3275911f) * z);
  constexpr float kErf[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  Lanes p = Lanes::set(1.061405429f);
  for (float c : kErf) p = p * t + Lanes::set(c);
  const Lanes tail = Lanes::set(0.5f) * p * t * exponential(Lanes::set(0) - z * z);  // Phi(-|x|)
  return x * where_negative(x, tail, Lanes::set(1) - tail);
}

/// 0.5 x (1 + tanh u) = x / (1 + e^(-2 u)) with 2 u = sqrt(8 / pi) (x + 0.044715 x^3).
inline Lanes gelu_tanh(Lanes x) {
  const Lanes slope = Lanes::set(1.59576912f) + Lanes::set(0.0713548163f) * x * x;
  return x / (Lanes::set(1) + exponential(Lanes::set(0) - x * slope));
}

inline Lanes activate(Lanes x, GluActivation activation) {
  switch (activation) {
    case GluActivation::kSilu:
      return silu(x);
    case GluActivation::kRelu:
      return max(Lanes::set(0), x);
    case GluActivation::kGelu:
      return gelu(x);
    case GluActivation::kGeluTanh:
      return gelu_tanh(x);
  }
  return x;
}

void glu(const float* gate, const float* up, int64_t width, GluActivation activation, float* y) {
  for_lanes(width, [&](int64_t i, auto... some) {
    Lanes value = Lanes::load(up + i, some...);
    if (gate) {
      value = activate(Lanes::load(gate + i, some...), activation) * value;
    } else {
      value = activate(value, activation);
    }
    value.store(y + i, some...);
  });
}

void add(const float* x, int64_t count, float* y) {
  for_lanes(count, [&](int64_t i, auto... some) {
    (Lanes::load(y + i, some...) + Lanes::load(x + i, some...)).store(y + i, some...);
  });
}

void norm(const float* x, int64_t width, const RowNorm& how, float* y) {
  const auto count = static_cast<float>(width);
  float mean = 0;
  if (how.layer_norm) {
    Lanes total = Lanes::set(0);
    for_lanes(width, [&](int64_t i, auto... some) { total = total + Lanes::load(x + i, some...); });
    mean = sum(total) / count;
  }
  Lanes squares = Lanes::set(0);
  for_lanes(width, [&](int64_t i, auto... some) {
    const Lanes d = Lanes::load(x + i, some...) - Lanes::set(mean);
    d.store(y + i, some...);
    const Lanes kept = Lanes::load(y + i, some...);  // lanes beyond the row are 0 again
    squares = squares + kept * kept;
  });
  const Lanes inverse = Lanes::set(1.0f / __builtin_sqrtf(sum(squares) / count + how.eps));
  for_lanes(width, [&](int64_t i, auto... some) {
    Lanes value = Lanes::load(y + i, some...) * inverse * Lanes::load(how.gain + i, some...);
    if (how.bias) value = value + Lanes::load(how.bias + i, some...);
    value.store(y + i, some...);
  });
}

/// What a quantizer must know of a row.
struct RowRange {
  float lo, hi;  ///< both include 0
  bool finite;
};

RowRange range_of(const float* x, int64_t k) {
  Lanes lo = Lanes::set(0), hi = Lanes::set(0), poison = Lanes::set(0);
  for_lanes(k, [&](int64_t i, auto... some) {
    const Lanes v = Lanes::load(x + i, some...);
    lo = min(lo, v);
    hi = max(hi, v);
    poison = poison + v * Lanes::set(0);  // 0, or NaN for an infinity or NaN
  });
  return {lowest(lo), highest(hi), sum(poison) == 0};
}

/// codes = repeat * (clamp(transform(x), lo, hi) - shift), rounded by `transform`; repeat null: 1.
template <class Transform>
void store_codes(const float* x, int64_t k, float lo, float hi, float shift, const float* repeat,
                 int8_t* codes, const Transform& transform) {
  for_lanes(k, [&](int64_t i, auto... some) {
    const Lanes rounded = transform(Lanes::load(x + i, some...));
    Lanes code = min(Lanes::set(hi), max(Lanes::set(lo), rounded)) - Lanes::set(shift);
    if (repeat) code = code * Lanes::load(repeat + i, some...);
    code.store_codes(codes + i, some...);
  });
}

/// Codes 0, scale and zero point as given.
void quantize_to_zero(int64_t k_padded, float scale, const CodeRows& out) {
  __builtin_memset(out.codes, 0, static_cast<size_t>(k_padded));
  out.scale[0] = scale;
  out.zero_point[0] = 0;
  if (out.offset) out.offset[0] = 0;
}

void quantize_row_symmetric(const float* x, int64_t k, const RowQuantizer& how, const RowRange& range,
                            const CodeRows& out) {
  const auto qmax = static_cast<float>((1 << (how.bits - 1)) - 1);
  const float absmax = -range.lo > range.hi ? -range.lo : range.hi;
  if (absmax < 0x1p-100f) return quantize_to_zero(k, 0, out);
  const Lanes inverse = Lanes::set(qmax / absmax);
  store_codes(x, k, -qmax, qmax, 0, how.repeat, out.codes, [&](Lanes v) { return (v * inverse).round(); });
  out.scale[0] = absmax / qmax;
  out.zero_point[0] = 0;
}

void quantize_row_asymmetric(const float* x, int64_t k, const RowQuantizer& how, RowRange range,
                             const CodeRows& out) {
  const auto levels = static_cast<float>((1 << how.bits) - 1);
  const auto half = static_cast<float>(1 << (how.bits - 1));
  if (range.hi - range.lo < 0x1p-100f) range = {0, 1, true};
  const float scale = (range.hi - range.lo) / levels;
  const float zero = __builtin_nearbyintf(-range.lo / scale);
  const float shift = how.repeat ? zero : half;
  const Lanes divisor = Lanes::set(scale), zero_code = Lanes::set(zero);
  store_codes(x, k, 0, levels, shift, how.repeat, out.codes,
              [&](Lanes v) { return (v / divisor).round() + zero_code; });
  out.scale[0] = scale;
  out.zero_point[0] = static_cast<int32_t>(zero - shift);
}

/// The smallest value is a code. The other quantizers' ranges hold 0, this one's need not.
void quantize_row_real_zero(const float* x, int64_t k, const RowQuantizer& how, const CodeRows& out) {
  constexpr float kLeastScale = 1e-6f;
  const auto levels = static_cast<float>((1 << how.bits) - 1);
  const auto half = static_cast<float>(1 << (how.bits - 1));
  float lo = k > 0 ? x[0] : 0, hi = lo;
  for (int64_t i = 1; i < k; ++i) {
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  if (hi - lo > __FLT_MAX__) return quantize_to_zero(k, __builtin_nanf(""), out);
  const float step = (hi - lo) / levels, scale = step > kLeastScale ? step : kLeastScale;
  const Lanes divisor = Lanes::set(scale), least = Lanes::set(lo);
  store_codes(x, k, 0, levels, half, nullptr, out.codes,
              [&](Lanes v) { return ((v - least) / divisor).round(); });
  out.scale[0] = scale;
  out.zero_point[0] = 0;
  out.offset[0] = lo + half * scale;
}

void quantize_row_static(const float* x, int64_t k, const RowQuantizer& how, const CodeRows& out) {
  const auto qmax = static_cast<float>((1 << (how.bits - 1)) - 1);
  const Lanes divisor = Lanes::set(how.static_scale);
  store_codes(x, k, -qmax, qmax, 0, how.repeat, out.codes, [&](Lanes v) { return (v / divisor).round(); });
  out.scale[0] = how.static_scale;
  out.zero_point[0] = 0;
}

void quantize(const float* x, int64_t k, int64_t k_padded, const RowQuantizer& how, const CodeRows& out) {
  const RowRange range = range_of(x, k);
  if (!range.finite) {
    quantize_to_zero(k, __builtin_nanf(""), out);
  } else if (how.kind == RowQuantizer::Kind::kSymmetric) {
    quantize_row_symmetric(x, k, how, range, out);
  } else if (how.kind == RowQuantizer::Kind::kAsymmetric) {
    quantize_row_asymmetric(x, k, how, range, out);
  } else if (how.kind == RowQuantizer::Kind::kRealZero) {
    quantize_row_real_zero(x, k, how, out);
  } else {
    quantize_row_static(x, k, how, out);
  }
  __builtin_memset(out.codes + k, 0, static_cast<size_t>(k_padded - k));
  sum_codes(k_padded, out);
}

void gather(const float* x, const int32_t* index, const float* gain, int64_t k, float* __restrict y) {
  for (int64_t i = 0; i < k; ++i) y[i] = gain[i] * x[index[i]];
}

void to_half(const float* from, int64_t count, Half* to) {
  for_lanes(count, [&](int64_t i, auto... some) { Lanes::load(from + i, some...).store(to + i, some...); });
}

}  // namespace
}  // namespace tessera
