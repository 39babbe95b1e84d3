// Tokenizer::load: chooses the file.
#include "tessera/text/tokenizer.h"

#include "tessera/base/error.h"
#include "tessera/text/hf_tokenizer.h"
#include "tessera/text/sentencepiece_tokenizer.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> load_files(const fs::path& model_dir, const TokenizerConfig& config) {
  const fs::path hugging_face = model_dir / "tokenizer.json", sentence_piece = model_dir / "tokenizer.model";
  if (fs::exists(hugging_face)) {
    return std::make_unique<HfTokenizer>(JsonNode(read_json(hugging_face), hugging_face.string()));
  }
  if (fs::exists(sentence_piece)) return std::make_unique<SentencePieceTokenizer>(sentence_piece, config);
  throw Error(
      "{}: neither tokenizer.json nor tokenizer.model is there; copy the tokenizer files of the original "
      "checkpoint into the folder",
      model_dir.string());
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::load(const fs::path& model_dir) {
  const TokenizerConfig config = read_tokenizer_config(model_dir);
  std::unique_ptr<Tokenizer> tokenizer = load_files(model_dir, config);
  if (config.bos_token) tokenizer->bos_id_ = tokenizer->token_id(*config.bos_token);
  if (config.eos_token) tokenizer->eos_id_ = tokenizer->token_id(*config.eos_token);
  return tokenizer;
}

}  // namespace tessera
