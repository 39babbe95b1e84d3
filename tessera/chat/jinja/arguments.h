// The arguments of a call, and how they meet the parameters.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/chat/jinja/value.h"

namespace tessera::jinja {

class Arguments {
 public:
  std::vector<Value> positional = {};
  std::vector<std::pair<std::string, Value>> named = {};

  /// One value for each of `parameters`, in their order; nothing where the call gives none. Throws Failure,
  /// naming `callee`, when it gives one twice, too many, or one that is not a parameter.
  std::vector<std::optional<Value>> bind(std::string_view callee,
                                         std::initializer_list<std::string_view> parameters) const;
  /// The same for a function of one parameter that must be given.
  Value only(std::string_view callee, std::string_view parameter) const;
};

/// The argument as text. Throws Failure, naming `what`, when it is something else.
const std::string& expect_text(const Value& value, std::string_view what);
/// The argument as an integer. Throws Failure, naming `what`, when it is something else.
int64_t expect_integer(const Value& value, std::string_view what);

}  // namespace tessera::jinja
