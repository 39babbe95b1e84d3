// What Jinja calls tests: value is name(arguments).
#pragma once

#include <string_view>

#include "tessera/chat/jinja/arguments.h"
#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

struct Predicate {
  using Function = bool (*)(Runtime&, const Value& value, const Arguments&);
  std::string_view name;
  Function function;
};

/// Throws Failure where there is no test of this name.
const Predicate& require_predicate(std::string_view name);

}  // namespace tessera::jinja
