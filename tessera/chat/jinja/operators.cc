// Arithmetic and comparisons.
#include "tessera/chat/jinja/operators.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/text_operations.h"

namespace tessera::jinja {
namespace {

constexpr std::array<std::string_view, 7> kSigns = {"+", "-", "*", "/", "//", "%", "**"};

int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

int64_t power(int64_t base, int64_t exponent, bool& overflow) {
  int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (; exponent > 0 && !overflow; --exponent) overflow = __builtin_mul_overflow(result, base, &result);
  return result;
}

Value integers(Arithmetic operation, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (operation) {
    case Arithmetic::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Arithmetic::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Arithmetic::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Arithmetic::kDivide:
      return static_cast<double>(a) / static_cast<double>(b);
    case Arithmetic::kFloorDivide:
    case Arithmetic::kModulo:
      overflow = a == INT64_MIN && b == -1;
      if (!overflow)
        result = operation == Arithmetic::kModulo ? a - floor_divide(a, b) * b : floor_divide(a, b);
      break;
    case Arithmetic::kPower:
      if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
      result = power(a, b, overflow);
      break;
  }
  if (overflow) throw Failure("an integer does not fit in 64 bits");
  return result;
}

double floor_modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double floats(Arithmetic operation, double a, double b) {
  switch (operation) {
    case Arithmetic::kAdd:
      return a + b;
    case Arithmetic::kSubtract:
      return a - b;
    case Arithmetic::kMultiply:
      return a * b;
    case Arithmetic::kDivide:
      return a / b;
    case Arithmetic::kFloorDivide:
      return std::floor(a / b);
    case Arithmetic::kModulo:
      return floor_modulo(a, b);
    case Arithmetic::kPower:
      return std::pow(a, b);
  }
  return 0;
}

std::optional<Value> numbers(Arithmetic operation, const Value& a, const Value& b) {
  const auto x = number_of(a), y = number_of(b);
  if (!x || !y) return std::nullopt;
  const bool divides = operation == Arithmetic::kDivide || operation == Arithmetic::kFloorDivide ||
                       operation == Arithmetic::kModulo;
  if ((divides && *y == 0) || (operation == Arithmetic::kPower && *x == 0 && *y < 0))
    throw Failure("division by zero");
  const auto i = integer_of(a), j = integer_of(b);
  if (i && j) return integers(operation, *i, *j);
  return floats(operation, *x, *y);
}

std::optional<Value> join(Runtime& runtime, const Value& a, const Value& b) {
  if (a.text() && b.text()) {
    runtime.budget.spend_text(a.text()->size() + b.text()->size());
    return *a.text() + *b.text();
  }
  if (!a.list() || !b.list() || a.list()->is_tuple != b.list()->is_tuple) return std::nullopt;
  List joined = *a.list();
  joined.items.insert(joined.items.end(), b.list()->items.begin(), b.list()->items.end());
  runtime.budget.spend(static_cast<int64_t>(joined.items.size()));
  return joined;
}

std::optional<Value> repeat(Runtime& runtime, const Value& sequence, const Value& times) {
  const auto wanted = integer_of(times);
  const std::string* text = sequence.text();
  const List* list = sequence.list();
  if (!wanted || (!text && !list)) return std::nullopt;
  const int64_t count = std::clamp<int64_t>(*wanted, 0, runtime.budget.limits().steps + 1);
  const size_t size = text ? text->size() / 256 + 1 : list->items.size();
  runtime.budget.spend(count * static_cast<int64_t>(size));
  if (text) {
    std::string out;
    for (int64_t i = 0; i < count; ++i) out += *text;
    return out;
  }
  List out{.is_tuple = list->is_tuple};
  for (int64_t i = 0; i < count; ++i)
    out.items.insert(out.items.end(), list->items.begin(), list->items.end());
  return out;
}

bool ordered(Comparison comparison, std::partial_ordering order) {
  switch (comparison) {
    case Comparison::kLess:
      return order < 0;
    case Comparison::kLessEqual:
      return order <= 0;
    case Comparison::kGreater:
      return order > 0;
    default:
      return order >= 0;
  }
}

}  // namespace

Value calculate(Runtime& runtime, Arithmetic operation, const Value& a, const Value& b) {
  require_defined(a);
  if (operation == Arithmetic::kModulo && a.text()) return format_percent(runtime, *a.text(), b);
  require_defined(b);
  if (auto result = numbers(operation, a, b)) return *result;
  if (operation == Arithmetic::kAdd) {
    if (auto result = join(runtime, a, b)) return *result;
    if (a.text() || a.list()) {
      throw Failure("can only concatenate {} (not \"{}\") to {}", a.type_name(), b.type_name(),
                    a.type_name());
    }
  }
  if (operation == Arithmetic::kMultiply) {
    if (auto result = repeat(runtime, a, b)) return *result;
    if (auto result = repeat(runtime, b, a)) return *result;
  }
  throw Failure("unsupported operand type(s) for {}: '{}' and '{}'", kSigns[static_cast<size_t>(operation)],
                a.type_name(), b.type_name());
}

Value negate(const Value& value) {
  require_defined(value);
  if (const auto integer = integer_of(value)) return integers(Arithmetic::kSubtract, 0, *integer);
  if (const auto number = number_of(value)) return -*number;
  throw Failure("bad operand type for unary -: '{}'", value.type_name());
}

bool contains(Runtime& runtime, const Value& container, const Value& element) {
  if (const std::string* text = container.text()) {
    if (!element.text())
      throw Failure("'in <string>' requires string as left operand, not {}", element.type_name());
    runtime.budget.spend_text(text->size());
    return text->find(*element.text()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) {
    require_hashable(element);
    runtime.budget.spend(element.extent().weight);
    return dict->find(element) != nullptr;
  }
  const List* list = container.list();
  if (!list) {
    if (container.is_undefined()) return false;
    throw Failure("argument of type '{}' is not iterable", container.type_name());
  }
  runtime.budget.spend(list->extent.weight);
  return std::ranges::any_of(list->items, [&](const Value& item) { return equal(item, element); });
}

bool compare(Runtime& runtime, Comparison comparison, const Value& a, const Value& b) {
  if (comparison == Comparison::kIn) return contains(runtime, b, a);
  if (comparison == Comparison::kNotIn) return !contains(runtime, b, a);
  runtime.budget.spend(std::min(a.extent().weight, b.extent().weight));
  if (comparison == Comparison::kEqual) return equal(a, b);
  if (comparison == Comparison::kNotEqual) return !equal(a, b);
  require_defined(a);
  require_defined(b);
  return ordered(comparison, order(a, b));
}

}  // namespace tessera::jinja
