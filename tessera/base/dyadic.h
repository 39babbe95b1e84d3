// Floats as what they are: integers times powers of two. Whether two numbers are equal is decided with these,
// not with a tolerance.
#pragma once

#include <cassert>
#include <cmath>
#include <cstdint>

namespace tessera {

/// m * 2^e with m odd; zero is 0 * 2^0.
struct Dyadic {
  int64_t m = 0;
  int e = 0;

  Dyadic() = default;
  /// `value` must be finite.
  explicit Dyadic(float value) {
    assert(std::isfinite(value));
    if (value == 0) return;
    constexpr int kSignificandBits = 24;
    m = static_cast<int64_t>(std::ldexp(std::frexp(value, &e), kSignificandBits));
    e -= kSignificandBits;
    for (; m % 2 == 0; m /= 2) ++e;
  }

  friend bool operator==(const Dyadic&, const Dyadic&) = default;
};

}  // namespace tessera
