// tokenizer.model files, read by the SentencePiece library, with the special tokens of Hugging Face around
// it.
#pragma once

#include <memory>

#include "tessera/text/added_tokens.h"
#include "tessera/text/decoder.h"
#include "tessera/text/sentencepiece_model.h"
#include "tessera/text/tokenizer.h"
#include "tessera/text/tokenizer_config.h"

namespace tessera {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  /// From the content of tokenizer.model; `file` opens messages. Throws Error when it is no SentencePiece
  /// model.
  SentencePieceTokenizer(std::string_view bytes, const std::string& file, const TokenizerConfig& config);

  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const override;
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  int32_t vocab_size() const override;
  std::optional<int32_t> token_id(std::string_view token) const override;

 private:
  std::vector<int32_t> encode_text(const Piece& piece) const;

  std::unique_ptr<SentencePieceModel> model_;
  std::unique_ptr<AddedTokens> added_tokens_;
  Decoder decoder_;
  bool add_bos_, add_eos_, legacy_;
};

}  // namespace tessera
