// Tokens that stand outside the model: they are found in the text before anything else happens to it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tessera/base/json_node.h"
#include "tessera/text/normalizer.h"
#include "tessera/text/split.h"
#include "tessera/text/vocabulary.h"

namespace tessera {

struct AddedToken {
  static constexpr int32_t kNextId =
      -1;  ///< the file gives no id: that in the vocabulary, else the next free

  std::string content;
  int32_t id = kNextId;
  bool single_word = false;  ///< not within a word
  bool lstrip = false;       ///< takes the blanks to its left with it
  bool rstrip = false;       ///< takes the blanks to its right with it
  bool normalized = false;   ///< looked for in the normalized text, in its normalized form
  bool special = false;      ///< left out by decoding with skip_special
  std::string spelling;      ///< what the decoder sees: the content, normalized if `normalized`
};

/// A member of "added_tokens" of tokenizer.json, or a value of "added_tokens_decoder" of
/// tokenizer_config.json, which has no id.
AddedToken parse_added_token(const JsonNode& node);

/// Appends those of `more` whose content `tokens` lacks, as Transformers does. `vocabulary_id` gives the id
/// of a text in the model's vocabulary, which decides; free ids start at `size` or behind the highest of
/// `tokens`.
void add_missing(std::vector<AddedToken>& tokens, const std::vector<AddedToken>& more, int32_t size,
                 const std::function<std::optional<int32_t>(std::string_view)>& vocabulary_id);

/// Finds the leftmost of a set of strings; among those that begin there, the longest.
class TokenMatcher {
 public:
  struct Match {
    Range range;
    const AddedToken* token;
  };

  /// `token` must outlive the matcher; an empty pattern matches nothing.
  void add(std::string pattern, const AddedToken& token);
  /// The first match at or after `start`.
  std::optional<Match> find(std::string_view text, size_t start) const;

 private:
  struct Entry {
    std::string pattern;
    const AddedToken* token;
  };
  std::array<std::vector<Entry>, 256> by_first_byte_;  ///< longest first
};

/// The added tokens of a tokenizer.
class AddedTokens {
 public:
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);
  AddedTokens(const AddedTokens&) = delete;  // the matchers point into tokens_
  AddedTokens& operator=(const AddedTokens&) = delete;

  /// Cuts `text` (valid UTF-8) into added tokens and the normalized text between them.
  std::vector<Piece> split(std::string text, const Normalizer& normalizer) const;

  /// Null when `id` is none of them.
  const AddedToken* token(int32_t id) const;
  std::optional<int32_t> id(std::string_view content) const;
  /// Highest id + 1; 0 without tokens.
  int32_t size() const { return size_; }

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, const AddedToken*> by_id_;
  StringMap<int32_t> ids_;
  TokenMatcher raw_, normalized_;
  int32_t size_ = 0;
};

}  // namespace tessera
