// Tokenizer::load: chooses the file.
#include "tessera/text/tokenizer.h"

#include "tessera/base/error.h"
#include "tessera/text/hf_tokenizer.h"
#include "tessera/text/sentencepiece_tokenizer.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> load_files(const fs::path& model, const ModelFiles& files,
                                      const TokenizerConfig& config) {
  constexpr const char *kHuggingFace = "tokenizer.json", *kSentencePiece = "tokenizer.model";
  if (files.contains(kHuggingFace)) {
    const nlohmann::json document = files.json(kHuggingFace);
    return std::make_unique<HfTokenizer>(JsonNode(document, files.where(kHuggingFace)), config.added_tokens);
  }
  if (files.contains(kSentencePiece)) {
    return std::make_unique<SentencePieceTokenizer>(files.read(kSentencePiece), files.where(kSentencePiece),
                                                    config);
  }
  throw Error(
      "{}: neither tokenizer.json nor tokenizer.model is there; copy the tokenizer files of the original "
      "checkpoint into the folder",
      model.string());
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::load(const fs::path& model) {
  const ModelFiles files(model);
  const TokenizerConfig config = read_tokenizer_config(files);
  std::unique_ptr<Tokenizer> tokenizer = load_files(model, files, config);
  if (config.bos_token) tokenizer->bos_id_ = tokenizer->token_id(*config.bos_token);
  if (config.eos_token) tokenizer->eos_id_ = tokenizer->token_id(*config.eos_token);
  return tokenizer;
}

std::optional<int32_t> Tokenizer::special_id(std::string_view token) const {
  const std::optional<int32_t> id = token_id(token);
  return id && decode({&*id, 1}, /*skip_special=*/true).empty() ? id : std::nullopt;
}

bool Tokenizer::adds_bos() const {
  const std::vector<int32_t> ids = encode("", /*add_special_tokens=*/true);
  return bos_id_ && !ids.empty() && ids.front() == *bos_id_;
}

}  // namespace tessera
