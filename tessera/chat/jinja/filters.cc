// The table of filters.
#include "tessera/chat/jinja/filters.h"

#include <algorithm>

namespace tessera::jinja {

const Filter* find_filter(std::string_view name) {
  for (const auto& group : {scalar_filters(), sequence_filters(), selection_filters()}) {
    const auto found = std::ranges::find(group, name, &Filter::name);
    if (found != group.end()) return &*found;
  }
  return nullptr;
}

}  // namespace tessera::jinja
