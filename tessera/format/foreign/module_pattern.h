// Which linears an entry of "targets" or "ignore" names.
#pragma once

#include <memory>
#include <string>

#include "tessera/base/json_node.h"

struct pcre2_real_code_8;

namespace tessera::foreign {

/// "Linear" (a class: every linear), "re:PATTERN" (a regular expression that matches from the start of the
/// full name), or a full name.
class ModulePattern {
 public:
  /// Ordered by precedence: a name beats a regular expression, that a class.
  enum class Kind : uint8_t { kName, kRegex, kClass };

  /// Throws Error (file, key) when a regular expression does not compile.
  explicit ModulePattern(const JsonNode& entry);

  Kind kind() const { return kind_; }
  /// Throws Error when the expression exhausts its limits.
  bool matches(const std::string& name) const;

 private:
  Kind kind_ = Kind::kName;
  std::string text_, where_;
  std::shared_ptr<pcre2_real_code_8> code_;
};

}  // namespace tessera::foreign
