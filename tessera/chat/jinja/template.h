// A Jinja template, read once and rendered any number of times.
#pragma once

#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/chat/jinja/budget.h"
#include "tessera/chat/jinja/syntax.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {

/// Where Jinja2 leaves a choice. The defaults are those of Transformers.
struct Dialect {
  bool keep_last_line_end = false;  ///< of the source; else it is dropped
  bool strict = false;              ///< to print what is undefined is an error
};

/// Immutable: any number of threads may render at the same time. The dialect is that of Transformers:
/// trim_blocks, lstrip_blocks, loop controls, no escaping, and a sandbox in which values do not change.
class Template {
 public:
  /// `name` is what errors call it, such as a file name. Throws Error with line and column where the source
  /// is not well-formed or holds a statement that is not supported.
  Template(std::string_view source, std::string name, Dialect dialect = {});

  /// The text with the members of the object `variables`, and `now` as the time of strftime_now(). Throws
  /// Error: with the template's own words where it calls raise_exception(), else with line and column.
  std::string render(const Json& variables, std::time_t now, const Limits& limits = {}) const;

 private:
  std::string name_;
  Block block_;
  bool strict_;
};

}  // namespace tessera::jinja
