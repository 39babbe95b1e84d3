// Floats as what they are: integers times powers of two. Whether two numbers are equal is decided with these,
// not with a tolerance. A double is such a number, too, of up to 53 bits: products of two floats, of 24 bits
// each or fewer, are exact in doubles, and so are products of those with small integers.
#pragma once

#include <cassert>
#include <cmath>
#include <cstdint>
#include <optional>

#include "tessera/base/dtype.h"

namespace tessera {

/// m * 2^e with m odd; zero is 0 * 2^0.
struct Dyadic {
  int64_t m = 0;
  int e = 0;

  Dyadic() = default;
  /// `value` must be finite.
  explicit Dyadic(double value) {
    assert(std::isfinite(value));
    if (value == 0) return;
    constexpr int kSignificandBits = 53;
    m = static_cast<int64_t>(std::ldexp(std::frexp(value, &e), kSignificandBits));
    e -= kSignificandBits;
    for (; m % 2 == 0; m /= 2) ++e;
  }

  friend bool operator==(const Dyadic&, const Dyadic&) = default;
};

/// The T (float, Half, BFloat16) nearest to `value`, by way of float.
template <class T>
T nearest(double value) {
  const auto single = static_cast<float>(value);
  if constexpr (DTypeOf<T>::value == DType::kF16) return to_half(single);
  if constexpr (DTypeOf<T>::value == DType::kBF16) return to_bfloat16(single);
  if constexpr (DTypeOf<T>::value == DType::kF32) return single;
}

/// `value` as a T, if there is such a T.
template <class T>
std::optional<T> exactly(double value) {
  const T candidate = nearest<T>(value);
  if (double{to_float(candidate)} != value) return std::nullopt;
  return candidate;
}

}  // namespace tessera
