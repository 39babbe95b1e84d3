// Splitting and replacing by pattern.
#include "tessera/text/split.h"

#include <algorithm>

namespace tessera {
namespace {

/// Joins the first of several consecutive matches to the span before them in `spans`, which may stand in
/// reversed order.
void merge_matches(std::vector<Span>& spans) {
  std::vector<Span> merged;
  bool previous_match = false;
  for (const Span& span : spans) {
    if (span.match && !previous_match && !merged.empty()) {
      merged.back().begin = std::min(merged.back().begin, span.begin);
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back(span);
    }
    previous_match = span.match;
  }
  spans = std::move(merged);
}

/// Joins neighbours that both match or both do not.
void merge_equals(std::vector<Span>& spans) {
  std::vector<Span> merged;
  for (const Span& span : spans) {
    if (!merged.empty() && merged.back().match == span.match) {
      merged.back().end = span.end;
    } else {
      merged.push_back(span);
    }
  }
  spans = std::move(merged);
}

}  // namespace

SplitBehavior parse_split_behavior(const JsonNode& node) {
  return node.choice<SplitBehavior>({{"Removed", SplitBehavior::kRemoved},
                                     {"Isolated", SplitBehavior::kIsolated},
                                     {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
                                     {"MergedWithNext", SplitBehavior::kMergedWithNext},
                                     {"Contiguous", SplitBehavior::kContiguous}});
}

std::vector<Span> cover(const std::vector<Range>& matches, size_t text_size) {
  std::vector<Span> spans;
  spans.reserve(2 * matches.size() + 1);
  size_t end = 0;
  for (const Range& match : matches) {
    if (end < match.begin) spans.push_back({end, match.begin, false});
    spans.push_back({match.begin, match.end, true});
    end = match.end;
  }
  if (end < text_size) spans.push_back({end, text_size, false});
  return spans;
}

void split_piece(const Piece& piece, std::vector<Span> spans, SplitBehavior behavior,
                 std::vector<Piece>& out) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      std::erase_if(spans, [](const Span& span) { return span.match; });
      break;
    case SplitBehavior::kContiguous:
      merge_equals(spans);
      break;
    case SplitBehavior::kMergedWithPrevious:
      merge_matches(spans);
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(spans.begin(), spans.end());
      merge_matches(spans);
      std::reverse(spans.begin(), spans.end());
      break;
  }
  for (const Span& span : spans) {
    if (span.begin == span.end) continue;
    out.push_back({piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0});
  }
}

Regex parse_pattern(const JsonNode& node) {
  const JsonNode literal = node["String"], regex = node["Regex"];
  if (literal.is_null() == regex.is_null()) node.fail("expected either a \"String\" or a \"Regex\"");
  return regex.is_null() ? Regex(literal.string(), Regex::Syntax::kLiteral, literal.where())
                         : Regex(regex.string(), Regex::Syntax::kOniguruma, regex.where());
}

std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content) {
  std::string out;
  out.reserve(text.size());
  size_t end = 0;
  for (const Range& match : pattern.find_all(text)) {
    out += text.substr(end, match.begin - end);
    out += content;
    end = match.end;
  }
  out += text.substr(end);
  return out;
}

}  // namespace tessera
