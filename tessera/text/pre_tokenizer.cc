// Pre-tokenizers.
#include "tessera/text/pre_tokenizer.h"

#include <optional>

#include "tessera/text/byte_level.h"
#include "tessera/text/component.h"

namespace tessera {
namespace {

/// The pattern of GPT-2, which ByteLevel applies unless it is told not to.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

PreTokenizer sequence(const JsonNode& node) {
  std::vector<PreTokenizer> stages;
  for (const JsonNode& stage : node["pretokenizers"].items()) stages.push_back(parse_pre_tokenizer(stage));
  return [stages](Piece&& piece, std::vector<Piece>& out) {
    std::vector<Piece> pieces{std::move(piece)};
    for (const PreTokenizer& stage : stages) {
      std::vector<Piece> parts;
      parts.reserve(pieces.size());
      for (Piece& p : pieces) stage(std::move(p), parts);
      pieces = std::move(parts);
    }
    std::move(pieces.begin(), pieces.end(), std::back_inserter(out));
  };
}

PreTokenizer split(const JsonNode& node) {
  return [pattern = parse_pattern(node["pattern"]), behavior = parse_split_behavior(node["behavior"]),
          invert = node["invert"].get_or(false)](const Piece& piece, std::vector<Piece>& out) {
    std::vector<Span> spans = cover(pattern.find_all(piece.text), piece.text.size());
    if (invert) {
      for (Span& span : spans) span.match = !span.match;
    }
    split_piece(piece, std::move(spans), behavior, out);
  };
}

PreTokenizer byte_level(const JsonNode& node) {
  std::optional<Regex> pattern;
  if (node["use_regex"].get_or(true)) {
    pattern.emplace(kGpt2Pattern, Regex::Syntax::kOniguruma, node.where());
  }
  return [pattern, add_prefix_space = node["add_prefix_space"].boolean()](Piece&& piece,
                                                                          std::vector<Piece>& out) {
    if (add_prefix_space && !piece.text.starts_with(' ')) piece.text.insert(0, 1, ' ');
    const size_t first = out.size();
    if (pattern) {
      const auto spans = cover(pattern->find_all(piece.text), piece.text.size());
      split_piece(piece, spans, SplitBehavior::kIsolated, out);
    } else {
      out.push_back(std::move(piece));
    }
    for (size_t i = first; i < out.size(); ++i) out[i].text = bytes_to_alphabet(out[i].text);
  };
}

/// Which pieces get a blank in front.
enum class Prepend { kAlways, kFirst, kNever };

PreTokenizer metaspace(const JsonNode& node) {
  const std::string replacement = one_character(node["replacement"]);
  const JsonNode scheme = node["prepend_scheme"];
  // Files older than prepend_scheme say add_prefix_space.
  Prepend prepend = node["add_prefix_space"].get_or(true) ? Prepend::kAlways : Prepend::kNever;
  if (!scheme.is_null()) {
    prepend = scheme.choice<Prepend>(
        {{"always", Prepend::kAlways}, {"first", Prepend::kFirst}, {"never", Prepend::kNever}});
  }
  const Regex space(" ", Regex::Syntax::kLiteral, node.where());
  const Regex delimiter(replacement, Regex::Syntax::kLiteral, node.where());
  const bool cut = node["split"].get_or(true);
  return [=](Piece&& piece, std::vector<Piece>& out) {
    piece.text = replace_all(piece.text, space, replacement);
    const bool wanted = prepend == Prepend::kAlways || (prepend == Prepend::kFirst && piece.at_start);
    if (wanted && !piece.text.starts_with(replacement)) piece.text.insert(0, replacement);
    if (!cut) return out.push_back(std::move(piece));
    const auto spans = cover(delimiter.find_all(piece.text), piece.text.size());
    split_piece(piece, spans, SplitBehavior::kMergedWithNext, out);
  };
}

using CharacterClass = bool (*)(char32_t);

void split_at_characters(const Piece& piece, CharacterClass delimiter, SplitBehavior behavior,
                         std::vector<Piece>& out) {
  split_piece(piece, cover(find_characters(piece.text, delimiter), piece.text.size()), behavior, out);
}

PreTokenizer character_splitter(CharacterClass delimiter, SplitBehavior behavior) {
  return [=](const Piece& piece, std::vector<Piece>& out) {
    split_at_characters(piece, delimiter, behavior, out);
  };
}

PreTokenizer digits(const JsonNode& node) {
  const bool individual = node["individual_digits"].get_or(false);
  return character_splitter(is_number, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

PreTokenizer whitespace_split(const JsonNode&) {
  return character_splitter(is_white_space, SplitBehavior::kRemoved);
}

PreTokenizer punctuation(const JsonNode& node) {
  const JsonNode behavior = node["behavior"];
  return character_splitter(is_punctuation,
                            behavior.is_null() ? SplitBehavior::kIsolated : parse_split_behavior(behavior));
}

/// Sequences of word characters, and of what is neither a word character nor a blank.
PreTokenizer whitespace(const JsonNode&) {
  return [](const Piece& piece, std::vector<Piece>& out) {
    std::vector<Piece> visible;
    split_at_characters(piece, is_white_space, SplitBehavior::kRemoved, visible);
    for (const Piece& p : visible) split_at_characters(p, is_word, SplitBehavior::kContiguous, out);
  };
}

}  // namespace

PreTokenizer parse_pre_tokenizer(const JsonNode& node) {
  if (node.is_null()) return [](Piece&& piece, std::vector<Piece>& out) { out.push_back(std::move(piece)); };
  return make_component<PreTokenizer>(node, {{"Sequence", sequence},
                                             {"Split", split},
                                             {"ByteLevel", byte_level},
                                             {"Metaspace", metaspace},
                                             {"Digits", digits},
                                             {"Whitespace", whitespace},
                                             {"WhitespaceSplit", whitespace_split},
                                             {"Punctuation", punctuation}});
}

}  // namespace tessera
