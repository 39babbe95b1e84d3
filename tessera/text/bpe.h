// Byte-pair encoding: a word becomes characters, and pairs of neighbours merge in the order of their ranks.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tessera/base/json_node.h"
#include "tessera/text/vocabulary.h"

namespace tessera {

/// The "model" of tokenizer.json, of type BPE.
class Bpe {
 public:
  /// Throws Error, naming file and place, for another type, for dropout and subword affixes, and when merges
  /// or the unknown token refer to tokens that the vocabulary lacks.
  explicit Bpe(const JsonNode& node);

  /// Appends the ids of one word (valid UTF-8 of any length): O(n log n) in its characters. Characters
  /// outside the vocabulary become bytes (byte_fallback), else the unknown token, else nothing.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;  ///< of the merged token
  };

  void read_merges(const JsonNode& node);
  std::vector<int32_t> characters(std::string_view word) const;
  const Merge* find_merge(int32_t left, int32_t right) const;
  void merge(const std::vector<int32_t>& characters, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;        ///< by the pair of ids, left << 32 | right
  std::array<std::optional<int32_t>, 256> byte_ids_;  ///< "<0x00>" ...; empty without byte_fallback
  std::optional<int32_t> unknown_id_;
  bool fuse_unknown_ = false;   ///< consecutive unknown characters become one token
  bool ignore_merges_ = false;  ///< a word that is a token is not taken apart
};

}  // namespace tessera
