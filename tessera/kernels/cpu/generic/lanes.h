// Sixteen floats in plain C++. Only for generic/kernels.cc.
#pragma once

#include <cstdint>

#include "tessera/base/dtype.h"

namespace tessera {
namespace {

constexpr int kTileRows = 2, kTileHalves = 2;
constexpr int kDotSums = 4;

/// The first `count` of 16 lanes.
struct Some {
  explicit Some(int64_t n) : count(n) {}
  int64_t count;
};

struct Lanes {
  float v[16];

  template <class F>
  static Lanes make(const F& f) {
    Lanes r;
    for (int i = 0; i < 16; ++i) r.v[i] = f(i);
    return r;
  }

  static Lanes set(float x) {
    return make([&](int) { return x; });
  }
  template <class T>
  static Lanes load(const T* p) {
    return make([&](int i) { return to_float(p[i]); });
  }
  /// The other lanes become 0.
  template <class T>
  static Lanes load(const T* p, Some some) {
    return make([&](int i) { return i < some.count ? to_float(p[i]) : 0.0f; });
  }
  static Lanes from_int(const int32_t* p) {
    return make([&](int i) { return static_cast<float>(p[i]); });
  }

  /// Sixteen words of 32 bits, shifted right and masked.
  static Lanes from_words(const uint8_t* p, int shift, int32_t mask) {
    return make([&](int i) {
      int32_t word;
      __builtin_memcpy(&word, p + 4 * i, 4);
      return static_cast<float>(word >> shift & mask);
    });
  }
  /// The same with a mask of 15.
  static Lanes from_nibbles(const uint8_t* p, int shift) { return from_words(p, shift, 15); }
  /// The same with bytes; the other lanes become 0.
  static Lanes from_bytes(const uint8_t* p, int shift, int32_t mask, Some some = Some(16)) {
    return make([&](int i) { return i < some.count ? static_cast<float>(p[i] >> shift & mask) : 0.0f; });
  }

  void store(float* p, Some some = Some(16)) const {
    for (int64_t i = 0; i < some.count; ++i) p[i] = v[i];
  }
  void store(Half* p, Some some = Some(16)) const {
    for (int64_t i = 0; i < some.count; ++i) p[i] = tessera::to_half(v[i]);
  }
  /// Integral values within int8.
  void store_codes(int8_t* p, Some some = Some(16)) const {
    for (int64_t i = 0; i < some.count; ++i) p[i] = static_cast<int8_t>(v[i]);
  }

  Lanes abs() const {
    return make([&](int i) { return __builtin_fabsf(v[i]); });
  }
  /// To the nearest integer, ties to even.
  Lanes round() const {
    return make([&](int i) {
      constexpr float kInteger = 0x1p23f;  // floats from here on are integers, and adding it rounds
      const float magnitude = __builtin_fabsf(v[i]);
      return magnitude < kInteger ? __builtin_copysignf((magnitude + kInteger) - kInteger, v[i]) : v[i];
    });
  }
  /// 2^n for integral n in [-126, 127].
  static Lanes power_of_two(Lanes n) {
    return make([&](int i) {
      // The conversion of NaN is undefined; the caller multiplies by a NaN anyway.
      const int32_t exponent = n.v[i] == n.v[i] ? static_cast<int32_t>(n.v[i]) : 0;
      return __builtin_bit_cast(float, (exponent + 127) << 23);
    });
  }
};

inline Lanes operator+(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] + b.v[i]; });
}
inline Lanes operator-(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] - b.v[i]; });
}
inline Lanes operator*(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] * b.v[i]; });
}
inline Lanes operator/(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] / b.v[i]; });
}
/// Both give b where a lane is not a number.
inline Lanes min(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Lanes max(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
/// a where x < 0, else b.
inline Lanes where_negative(Lanes x, Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return x.v[i] < 0 ? a.v[i] : b.v[i]; });
}
/// a * b + c.
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
  return a * b + c;
}

/// Lane j of a[i] becomes lane i of a[j].
inline void transpose(Lanes (&a)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = a[i].v[j];
      a[i].v[j] = a[j].v[i];
      a[j].v[i] = x;
    }
  }
}

}  // namespace
}  // namespace tessera
