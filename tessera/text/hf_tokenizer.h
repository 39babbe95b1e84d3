// The pipeline of tokenizer.json: added tokens, normalizer, pre-tokenizer, BPE, post-processor, decoder.
#pragma once

#include <filesystem>

#include "tessera/text/added_tokens.h"
#include "tessera/text/bpe.h"
#include "tessera/text/decoder.h"
#include "tessera/text/normalizer.h"
#include "tessera/text/post_processor.h"
#include "tessera/text/pre_tokenizer.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

class HfTokenizer final : public Tokenizer {
 public:
  /// `root` is the whole of tokenizer.json, `more` the added tokens that stand elsewhere. Its "truncation"
  /// and "padding" are ignored. Throws Error, naming file and place, when it is broken or asks for a
  /// component that is not supported.
  explicit HfTokenizer(const JsonNode& root, const std::vector<AddedToken>& more = {});

  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const override;
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  int32_t vocab_size() const override;
  std::optional<int32_t> token_id(std::string_view token) const override;

 private:
  Bpe model_;
  Normalizer normalizer_;
  AddedTokens added_tokens_;
  PreTokenizer pre_tokenizer_;
  PostProcessor post_processor_;
  Decoder decoder_;
};

}  // namespace tessera
