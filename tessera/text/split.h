// Cutting a text into the pieces that the model sees one by one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/json_node.h"
#include "tessera/text/regex.h"
#include "tessera/text/unicode.h"

namespace tessera {

/// A part of the text on its way to ids.
struct Piece {
  static constexpr int32_t kNoToken = -1;

  std::string text;
  bool at_start = false;     ///< it begins where the whole text begins
  int32_t token = kNoToken;  ///< the id of an added token, whose text is then of no interest
};

/// A range of a text that a pattern matches, or one between two matches.
struct Span {
  size_t begin, end;
  bool match;
};

/// What becomes of the matches ("delimiters") of a splitting pattern.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

SplitBehavior parse_split_behavior(const JsonNode& node);

/// Fills the gaps between matches, so that the spans cover the text.
std::vector<Span> cover(const std::vector<Range>& matches, size_t text_size);

/// Every character for which `predicate` holds is a match of its own.
template <class Predicate>
std::vector<Range> find_characters(std::string_view text, const Predicate& predicate) {
  std::vector<Range> matches;
  for_each_code_point(text, [&](char32_t c, size_t position, size_t length) {
    if (predicate(c)) matches.push_back({position, position + length});
  });
  return matches;
}

/// Appends the parts of `piece`, of which `spans` cover the text; empty ones are dropped.
void split_piece(const Piece& piece, std::vector<Span> spans, SplitBehavior behavior,
                 std::vector<Piece>& out);

/// The "pattern" member of Split and Replace: {"String": ...} or {"Regex": ...}.
Regex parse_pattern(const JsonNode& node);

/// `text` with every match of `pattern` replaced by `content`.
std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content);

}  // namespace tessera
