// AddedTokens: two rounds of matching, on the raw text and on what is left of it after normalization.
#include "tessera/text/added_tokens.h"

#include <algorithm>

namespace tessera {
namespace {

bool begins_with_word(std::string_view text) {
  return !text.empty() && is_word(decode_code_point(text).value);
}

/// Where the last character of `text` begins; `text` is not empty.
size_t last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while ((text[begin] & 0xC0) == 0x80) --begin;
  return begin;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && begins_with_word(text.substr(last_character(text)));
}

size_t leading_blanks(std::string_view text) {
  size_t size = 0;
  while (size < text.size()) {
    const CodePoint c = decode_code_point(text.substr(size));
    if (!is_white_space(c.value)) break;
    size += c.length;
  }
  return size;
}

/// The length of `text` without the blanks at its end.
size_t without_trailing_blanks(std::string_view text) {
  while (!text.empty()) {
    const size_t last = last_character(text);
    if (!is_white_space(decode_code_point(text.substr(last)).value)) break;
    text = text.substr(0, last);
  }
  return text.size();
}

/// Appends the tokens that `matcher` finds in `piece` and the text between them.
void extract(const Piece& piece, const TokenMatcher& matcher, std::vector<Piece>& out) {
  const std::string_view text = piece.text;
  size_t done = 0;  // what lies before is in `out`
  const auto put_text = [&](size_t end) {
    if (done < end) out.push_back({piece.text.substr(done, end - done), piece.at_start && done == 0});
  };
  for (auto match = matcher.find(text, 0); match; match = matcher.find(text, match->range.end)) {
    auto [begin, end] = match->range;
    const AddedToken& token = *match->token;
    if (token.single_word && (ends_with_word(text.substr(0, begin)) || begins_with_word(text.substr(end)))) {
      continue;
    }
    if (token.lstrip) begin = std::max(without_trailing_blanks(text.substr(0, begin)), done);
    if (token.rstrip) end += leading_blanks(text.substr(end));
    if (begin >= end) continue;  // a token of blanks, which the one before has taken
    put_text(begin);
    out.push_back({"", false, token.id});
    done = end;
  }
  put_text(text.size());
}

}  // namespace

AddedToken parse_added_token(const JsonNode& node) {
  AddedToken token;
  token.content = node["content"].string();
  token.single_word = node["single_word"].get_or(false);
  token.lstrip = node["lstrip"].get_or(false);
  token.rstrip = node["rstrip"].get_or(false);
  token.special = node["special"].get_or(false);
  token.normalized = node["normalized"].get_or(!token.special);
  return token;
}

void add_missing(std::vector<AddedToken>& tokens, const std::vector<AddedToken>& more, int32_t size,
                 const std::function<std::optional<int32_t>(std::string_view)>& vocabulary_id) {
  for (const AddedToken& token : tokens) size = std::max(size, token.id + 1);
  for (AddedToken token : more) {
    if (std::ranges::find(tokens, token.content, &AddedToken::content) != tokens.end()) continue;
    token.id = vocabulary_id(token.content).value_or(token.id == AddedToken::kNextId ? size : token.id);
    size = std::max(size, token.id + 1);
    tokens.push_back(std::move(token));
  }
}

void TokenMatcher::add(std::string pattern, const AddedToken& token) {
  if (pattern.empty()) return;
  auto& entries = by_first_byte_[static_cast<uint8_t>(pattern.front())];
  const auto shorter = [&](const Entry& entry) { return entry.pattern.size() < pattern.size(); };
  const auto position = std::find_if(entries.begin(), entries.end(), shorter);
  entries.insert(position, {std::move(pattern), &token});
}

std::optional<TokenMatcher::Match> TokenMatcher::find(std::string_view text, size_t start) const {
  for (size_t i = start; i < text.size(); ++i) {
    for (const Entry& entry : by_first_byte_[static_cast<uint8_t>(text[i])]) {
      if (text.substr(i).starts_with(entry.pattern)) return Match{{i, i + entry.pattern.size()}, entry.token};
    }
  }
  return std::nullopt;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer)
    : tokens_(std::move(tokens)) {
  for (AddedToken& token : tokens_) {
    token.spelling = token.normalized ? normalizer(token.content) : token.content;
    (token.normalized ? normalized_ : raw_).add(token.spelling, token);
    by_id_[token.id] = &token;
    ids_[token.content] = token.id;
    size_ = std::max(size_, token.id + 1);
  }
}

std::vector<Piece> AddedTokens::split(std::string text, const Normalizer& normalizer) const {
  std::vector<Piece> first, second;
  extract({std::move(text), true}, raw_, first);
  for (Piece& piece : first) {
    if (piece.token != Piece::kNoToken) {
      second.push_back(std::move(piece));
    } else {
      piece.text = normalizer(std::move(piece.text));
      extract(piece, normalized_, second);
    }
  }
  return second;
}

const AddedToken* AddedTokens::token(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : it->second;
}

std::optional<int32_t> AddedTokens::id(std::string_view content) const {
  const auto it = ids_.find(content);
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace tessera
