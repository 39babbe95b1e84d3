// Regular expressions over UTF-8, through PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace tessera {

/// A half-open range of bytes.
struct Range {
  size_t begin, end;
};

/// A compiled pattern. Cheap to copy; safe to use from several threads.
class Regex {
 public:
  enum class Syntax { kOniguruma, kLiteral };

  /// `where` (file and place) opens every error. Throws Error when the pattern does not compile.
  Regex(std::string_view pattern, Syntax syntax, std::string where);

  /// All matches in `text` (valid UTF-8), from left to right, not overlapping; none in an empty text. An
  /// empty match is reported unless it touches the end of the one before. Throws Error when the pattern
  /// exhausts PCRE2's limits.
  std::vector<Range> find_all(std::string_view text) const;

 private:
  std::string where_;
  std::shared_ptr<pcre2_real_code_8> code_;
};

}  // namespace tessera
