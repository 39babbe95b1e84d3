// The methods of text, lists and dicts.
#pragma once

#include <string_view>

#include "tessera/chat/jinja/arguments.h"
#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

struct Method {
  std::string_view name;
  BoundMethod::Function function;
};
/// Null where the value has no such method.
const Method* find_method(const Value& value, std::string_view name);
/// Whether Python's method of this name would change the value. Transformers runs templates in a sandbox that
/// refuses those.
bool is_mutator(const Value& value, std::string_view name);

}  // namespace tessera::jinja
