// Token strings and their ids.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tessera/base/json_node.h"

namespace tessera {

/// Ids of a vocabulary lie below this: no model comes near, and a hostile id must not exhaust the memory.
inline constexpr int32_t kMaxVocabSize = 1 << 24;

/// Lets maps of strings be searched with string_views.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
template <class Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

/// The vocabulary of a model. Ids may have gaps.
class Vocabulary {
 public:
  /// From the "vocab" object of tokenizer.json. Throws Error when an id is not an integer of
  /// [0, kMaxVocabSize).
  explicit Vocabulary(const JsonNode& node);

  std::optional<int32_t> id(std::string_view token) const;
  /// Null where no token has the id.
  const std::string* token(int32_t id) const;
  /// Highest id + 1.
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }

 private:
  StringMap<int32_t> ids_;
  std::vector<std::string> tokens_;
  std::vector<bool> present_;
};

}  // namespace tessera
