// The operators of expressions, with Python's meaning.
#pragma once

#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

enum class Arithmetic : uint8_t { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class Comparison : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};

/// Throws Failure where Python raises TypeError or ZeroDivisionError, and where integers leave 64 bits.
Value calculate(Runtime& runtime, Arithmetic operation, const Value& a, const Value& b);
/// -value
Value negate(const Value& value);
/// Throws Failure where Python raises TypeError.
bool compare(Runtime& runtime, Comparison comparison, const Value& a, const Value& b);
/// element in container
bool contains(Runtime& runtime, const Value& container, const Value& element);

}  // namespace tessera::jinja
