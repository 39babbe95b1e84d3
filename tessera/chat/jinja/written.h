// Values as text, and JSON as values.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

/// JSON whose objects keep their order.
using Json = nlohmann::ordered_json;

/// Python's str(): how a value is printed. Undefined is empty, or throws Failure where the dialect is strict.
std::string printed(Runtime& runtime, const Value& value);

/// Throws Failure where it is nested more than kMaxDepth deep; `depth` is that of `json` itself.
Value from_json(const Json& json, int depth = 0);

struct JsonStyle {
  std::optional<std::string> indent = {};  ///< of one level; nothing: all in one line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false, ensure_ascii = false;
};
/// Python's json.dumps(). Throws Failure for what JSON cannot hold.
std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

/// Python's repr() of a float: "1.0", "1e+16".
std::string float_text(double number);

}  // namespace tessera::jinja
