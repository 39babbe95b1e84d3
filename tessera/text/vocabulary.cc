// Vocabulary.
#include "tessera/text/vocabulary.h"

namespace tessera {

Vocabulary::Vocabulary(const JsonNode& node) {
  ids_.reserve(node.object().size());
  for (const auto& [token, value] : node.object()) {
    const int32_t id = node[token].integer<int32_t>(0, kMaxVocabSize - 1);
    if (id >= size()) {
      tokens_.resize(static_cast<size_t>(id) + 1);
      present_.resize(tokens_.size());
    }
    ids_.emplace(token, id);
    tokens_[static_cast<size_t>(id)] = token;
    present_[static_cast<size_t>(id)] = true;
  }
}

std::optional<int32_t> Vocabulary::id(std::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

const std::string* Vocabulary::token(int32_t id) const {
  const bool known = id >= 0 && id < size() && present_[static_cast<size_t>(id)];
  return known ? &tokens_[static_cast<size_t>(id)] : nullptr;
}

}  // namespace tessera
