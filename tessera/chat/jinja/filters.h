// Filters: value|name(arguments).
#pragma once

#include <span>
#include <string_view>

#include "tessera/chat/jinja/arguments.h"
#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

struct Filter {
  using Function = Value (*)(Runtime&, const Value& input, const Arguments&);
  std::string_view name;
  Function function;
};

/// Null where there is no filter of this name.
const Filter* find_filter(std::string_view name);

/// Those that make text or numbers of a value.
std::span<const Filter> scalar_filters();
/// Those that go through lists and dicts.
std::span<const Filter> sequence_filters();
/// Those that choose among elements: select, map, sort, ...
std::span<const Filter> selection_filters();

}  // namespace tessera::jinja
