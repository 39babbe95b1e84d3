// Tests of values.
#include "tessera/chat/jinja/predicates.h"

#include <algorithm>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/filters.h"
#include "tessera/chat/jinja/operators.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {
namespace {

/// A test without arguments.
template <bool (*holds)(const Value&)>
bool plain(Runtime&, const Value& value, const Arguments& arguments) {
  arguments.bind("the test", {});
  return holds(value);
}

bool is_defined(const Value& value) {
  return !value.is_undefined();
}
bool is_undefined(const Value& value) {
  return value.is_undefined();
}
bool is_none(const Value& value) {
  return value.is_none();
}
bool is_boolean(const Value& value) {
  return value.boolean() != nullptr;
}
bool is_true(const Value& value) {
  return value.boolean() && *value.boolean();
}
bool is_false(const Value& value) {
  return value.boolean() && !*value.boolean();
}
bool is_integer(const Value& value) {
  return !value.boolean() && integer_of(value);
}
bool is_float(const Value& value) {
  return number_of(value) && !integer_of(value);
}
bool is_number(const Value& value) {
  return number_of(value).has_value();
}
bool is_string(const Value& value) {
  return value.text() != nullptr;
}
bool is_mapping(const Value& value) {
  return value.dict() != nullptr;
}
bool is_sequence(const Value& value) {
  return value.text() || value.list() || value.dict() || value.is_undefined();
}
bool is_callable(const Value& value) {
  return value.is_undefined() || value.method() || (value.object() && value.object()->is_callable());
}
bool is_escaped(const Value&) {
  return false;
}

int64_t remainder(const Value& value, int64_t divisor) {
  require_defined(value);
  const int64_t number = expect_integer(value, "the value");
  if (divisor == 0) throw Failure("integer modulo by zero");
  return divisor == -1 ? 0 : number % divisor;
}
bool is_odd(const Value& value) {
  return remainder(value, 2) != 0;
}
bool is_even(const Value& value) {
  return remainder(value, 2) == 0;
}

bool is_divisible(Runtime&, const Value& value, const Arguments& arguments) {
  return remainder(value, expect_integer(arguments.only("divisibleby", "num"), "num")) == 0;
}

template <Comparison comparison>
bool compares(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return compare(runtime, comparison, value, arguments.only("the test", "other"));
}

/// Identity: of what templates can tell apart, the same type and the same value.
bool is_same(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const Value other = arguments.only("sameas", "other");
  return value.data().index() == other.data().index() && compare(runtime, Comparison::kEqual, value, other);
}

template <std::string (*change)(std::string_view)>
bool is_in_case(Runtime& runtime, const Value& value, const Arguments& arguments) {
  arguments.bind("the test", {});
  const std::string text = printed(runtime, value);
  runtime.budget.spend_text(text.size());
  const bool has_case = lower(text) != upper(text);
  return has_case && text == change(text);
}

bool is_filter(Runtime&, const Value& value, const Arguments& arguments) {
  arguments.bind("filter", {});
  return find_filter(expect_text(value, "the name of a filter")) != nullptr;
}

constexpr Predicate kPredicates[] = {{"boolean", plain<is_boolean>},
                                     {"callable", plain<is_callable>},
                                     {"defined", plain<is_defined>},
                                     {"divisibleby", is_divisible},
                                     {"escaped", plain<is_escaped>},
                                     {"even", plain<is_even>},
                                     {"false", plain<is_false>},
                                     {"filter", is_filter},
                                     {"float", plain<is_float>},
                                     {"in", compares<Comparison::kIn>},
                                     {"integer", plain<is_integer>},
                                     {"iterable", plain<is_sequence>},
                                     {"lower", is_in_case<lower>},
                                     {"mapping", plain<is_mapping>},
                                     {"none", plain<is_none>},
                                     {"number", plain<is_number>},
                                     {"odd", plain<is_odd>},
                                     {"sameas", is_same},
                                     {"sequence", plain<is_sequence>},
                                     {"string", plain<is_string>},
                                     {"true", plain<is_true>},
                                     {"undefined", plain<is_undefined>},
                                     {"upper", is_in_case<upper>},
                                     {"==", compares<Comparison::kEqual>},
                                     {"eq", compares<Comparison::kEqual>},
                                     {"equalto", compares<Comparison::kEqual>},
                                     {"!=", compares<Comparison::kNotEqual>},
                                     {"ne", compares<Comparison::kNotEqual>},
                                     {">", compares<Comparison::kGreater>},
                                     {"gt", compares<Comparison::kGreater>},
                                     {"greaterthan", compares<Comparison::kGreater>},
                                     {">=", compares<Comparison::kGreaterEqual>},
                                     {"ge", compares<Comparison::kGreaterEqual>},
                                     {"<", compares<Comparison::kLess>},
                                     {"lt", compares<Comparison::kLess>},
                                     {"lessthan", compares<Comparison::kLess>},
                                     {"<=", compares<Comparison::kLessEqual>},
                                     {"le", compares<Comparison::kLessEqual>}};

}  // namespace

const Predicate& require_predicate(std::string_view name) {
  const auto found = std::ranges::find(kPredicates, name, &Predicate::name);
  if (found == std::end(kPredicates)) throw Failure("No test named '{}'.", name);
  return *found;
}

}  // namespace tessera::jinja
