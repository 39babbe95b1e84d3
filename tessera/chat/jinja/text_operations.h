// What methods, filters and operators do with text alike.
#pragma once

#include <string>

#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

/// Python's str.replace(); negative `most`: all.
std::string replace(Runtime& runtime, const std::string& text, const std::string& old,
                    const std::string& replacement, int64_t most);

/// format % arguments: a tuple gives several, a dict those that are named. Knows s, r, d, i, f, e, g, x, o
/// with flags, width and precision.
std::string format_percent(Runtime& runtime, const std::string& format, const Value& arguments);

}  // namespace tessera::jinja
