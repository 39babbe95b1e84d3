// The pre-tokenizers that GGUF files name.
#pragma once

#include <string_view>

#include "tessera/base/json_node.h"

namespace tessera {

/// What a byte-level BPE tokenizer of Hugging Face does beside its vocabulary and merges.
struct GgufPreTokenizer {
  std::string_view name;      ///< in tokenizer.ggml.pre
  const char* pre_tokenizer;  ///< JSON, as in tokenizer.json of the model that the name comes from
  const char* normalizer = "null";
  bool ignore_merges = false;  ///< a word that is a token is not taken apart
  bool adds_bos = false;       ///< where the file does not say
};

/// The one that `name` (tokenizer.ggml.pre) names. Throws Error, listing the known ones, for any other name,
/// for "default", and when it is absent: a guess would tokenize wrongly without a sign.
const GgufPreTokenizer& gguf_pre_tokenizer(const JsonNode& name);

/// The one that a tokenizer.json of Hugging Face holds; null when it is none of them.
const GgufPreTokenizer* find_gguf_pre_tokenizer(const nlohmann::json& tokenizer);

}  // namespace tessera
