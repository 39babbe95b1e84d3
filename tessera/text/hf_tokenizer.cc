// HfTokenizer: assembles and runs the pipeline.
#include "tessera/text/hf_tokenizer.h"

#include <algorithm>

namespace tessera {
namespace {

std::vector<AddedToken> parse_added_tokens(const JsonNode& node, const Vocabulary& vocabulary,
                                           const std::vector<AddedToken>& more) {
  std::vector<AddedToken> tokens;
  for (const JsonNode& item : node.is_null() ? std::vector<JsonNode>() : node.items()) {
    AddedToken& token = tokens.emplace_back(parse_added_token(item));
    token.id = item["id"].integer<int32_t>(0, kMaxVocabSize - 1);
    const int32_t id = vocabulary.id(token.content).value_or(token.id);
    if (id != token.id)
      item.fail("'{}' has id {} here and {} in the vocabulary", token.content, token.id, id);
  }
  add_missing(tokens, more, vocabulary.size(), [&](std::string_view text) { return vocabulary.id(text); });
  return tokens;
}

/// The ids of words already seen in a text: prose repeats most of its words.
class WordCache {
 public:
  explicit WordCache(const Bpe& model) : model_(model) {}

  void encode(std::string& word, std::vector<int32_t>& ids) {
    constexpr size_t kLongestWord = 64;  // longer ones hardly come back
    if (word.size() > kLongestWord) return model_.encode(word, ids);
    const auto [entry, is_new] = words_.try_emplace(std::move(word));
    if (is_new) model_.encode(entry->first, entry->second);
    ids.insert(ids.end(), entry->second.begin(), entry->second.end());
  }

 private:
  const Bpe& model_;
  StringMap<std::vector<int32_t>> words_;
};

}  // namespace

HfTokenizer::HfTokenizer(const JsonNode& root, const std::vector<AddedToken>& more)
    : model_(root["model"]),
      normalizer_(parse_normalizer(root["normalizer"])),
      added_tokens_(parse_added_tokens(root["added_tokens"], model_.vocabulary(), more), normalizer_),
      pre_tokenizer_(parse_pre_tokenizer(root["pre_tokenizer"])),
      post_processor_(parse_post_processor(root["post_processor"], vocab_size())),
      decoder_(parse_decoder(root["decoder"])) {}

std::vector<int32_t> HfTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int32_t> ids;
  if (add_special_tokens) ids = post_processor_.before;
  WordCache cache(model_);
  for (Piece& piece : added_tokens_.split(replace_invalid_utf8(text), normalizer_)) {
    if (piece.token != Piece::kNoToken) {
      ids.push_back(piece.token);
      continue;
    }
    std::vector<Piece> words;
    pre_tokenizer_(std::move(piece), words);
    for (Piece& word : words) cache.encode(word.text, ids);
  }
  if (add_special_tokens) ids.insert(ids.end(), post_processor_.after.begin(), post_processor_.after.end());
  return ids;
}

std::string HfTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (const AddedToken* added = added_tokens_.token(id)) {
      if (!(skip_special && added->special)) tokens.push_back(added->spelling);
    } else if (const std::string* token = model_.vocabulary().token(id)) {
      tokens.push_back(*token);
    }
  }
  std::string text;
  for (const std::string& part : decoder_(std::move(tokens))) text += part;
  return text;
}

int32_t HfTokenizer::vocab_size() const {
  return std::max(model_.vocabulary().size(), added_tokens_.size());
}

std::optional<int32_t> HfTokenizer::token_id(std::string_view token) const {
  const auto added = added_tokens_.id(token);
  return added ? added : model_.vocabulary().id(token);
}

}  // namespace tessera
