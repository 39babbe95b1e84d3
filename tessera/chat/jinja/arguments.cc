// Binding of arguments.
#include "tessera/chat/jinja/arguments.h"

#include <algorithm>

namespace tessera::jinja {

std::vector<std::optional<Value>> Arguments::bind(std::string_view callee,
                                                  std::initializer_list<std::string_view> parameters) const {
  if (positional.size() > parameters.size()) {
    throw Failure("{}() takes at most {} arguments but {} were given", callee, parameters.size(),
                  positional.size());
  }
  std::vector<std::optional<Value>> bound(positional.begin(), positional.end());
  bound.resize(parameters.size());
  for (const auto& [name, value] : named) {
    const auto parameter = std::ranges::find(parameters, name);
    if (parameter == parameters.end())
      throw Failure("{}() got an unexpected keyword argument '{}'", callee, name);
    std::optional<Value>& place = bound[static_cast<size_t>(parameter - parameters.begin())];
    if (place) throw Failure("{}() got multiple values for argument '{}'", callee, name);
    place = value;
  }
  return bound;
}

Value Arguments::only(std::string_view callee, std::string_view parameter) const {
  const auto bound = bind(callee, {parameter});
  if (!bound[0]) throw Failure("{}() missing 1 required positional argument: '{}'", callee, parameter);
  return *bound[0];
}

const std::string& expect_text(const Value& value, std::string_view what) {
  if (const std::string* text = value.text()) return *text;
  throw Failure("{} must be str, not {}", what, value.type_name());
}

int64_t expect_integer(const Value& value, std::string_view what) {
  if (const auto integer = integer_of(value)) return *integer;
  throw Failure("{} must be int, not {}", what, value.type_name());
}

}  // namespace tessera::jinja
