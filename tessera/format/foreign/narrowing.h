// Numbers in narrower types: exact, or rounded where that is allowed, and counted.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "tessera/base/dyadic.h"
#include "tessera/base/error.h"
#include "tessera/format/foreign/writers.h"

namespace tessera::foreign {

template <class T>
constexpr std::string_view kFloatName = DTypeOf<T>::value == DType::kF16    ? "float16"
                                        : DTypeOf<T>::value == DType::kBF16 ? "bfloat16"
                                                                            : "float32";

/// Takes the numbers of one layer to narrower types.
class Narrowing {
 public:
  Narrowing(std::string where, bool round) : where_(std::move(where)), round_(round) {}

  /// The nearest T; `what` it is, at output n and group or input `column`, stands in the error. Throws Error
  /// when it is another number and rounding is not allowed, or leaves the range of T.
  template <class T>
  T to(double value, const char* what, int64_t n, const char* column_kind, int64_t column) {
    const T result = nearest<T>(value);
    const double stored = to_float(result);
    if (stored == value) return result;
    if (!round_) {
      throw Error("{}: the {} {} of output {}, {} {} is no {} number; {}", where_, what, value, n,
                  column_kind, column, kFloatName<T>, kRemedy);
    }
    if (!std::isfinite(stored)) {
      throw Error("{}: the {} {} of output {}, {} {} is beyond {}", where_, what, value, n, column_kind,
                  column, kFloatName<T>);
    }
    add({1, std::abs(stored / value - 1)});
    return result;
  }
  template <class T>
  T scale(double value, int64_t n, int64_t group) {
    return to<T>(value, "scale", n, "group", group);
  }

  /// The same task with nothing counted yet.
  Narrowing afresh() const { return {where_, round_}; }
  void add(const Rounding& other) {
    rounding_.changed += other.changed;
    rounding_.largest = std::max(rounding_.largest, other.largest);
  }
  const Rounding& rounding() const { return rounding_; }

 private:
  static constexpr const char* kRemedy = "--round rounds it";

  std::string where_;
  bool round_;
  Rounding rounding_;
};

}  // namespace tessera::foreign
