// SentencePieceTokenizer.
#include "tessera/text/sentencepiece_tokenizer.h"

#include <algorithm>

namespace tessera {
namespace {

/// How Hugging Face decodes such models: blanks, bytes, and the blank before the first word dropped.
constexpr std::string_view kDecoder = R"({"type": "Sequence", "decoders": [
  {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
  {"type": "ByteFallback"},
  {"type": "Fuse"},
  {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";

std::string identity(std::string text) {
  return text;
}

/// Control tokens and the unknown token: SentencePiece does not look for them in the text.
std::vector<AddedToken> special_pieces(const SentencePieceModel& model) {
  std::vector<AddedToken> tokens;
  for (int id = 0; id < model.size(); ++id) {
    if (!model.is_control(id) && !model.is_unknown(id)) continue;
    AddedToken& token = tokens.emplace_back();
    token.content = model.piece(id);
    token.id = id;
    token.special = true;
  }
  return tokens;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view bytes, const std::string& file,
                                               const TokenizerConfig& config)
    : model_(SentencePieceModel::load(bytes, file)),
      add_bos_(config.add_bos_token),
      add_eos_(config.add_eos_token),
      legacy_(config.legacy) {
  std::vector<AddedToken> tokens = special_pieces(*model_);
  for (const AddedToken& stated : config.added_tokens) {  // they replace what the model says
    std::erase_if(tokens, [&](const AddedToken& t) {
      return stated.id != AddedToken::kNextId && (t.content == stated.content || t.id == stated.id);
    });
  }
  add_missing(tokens, config.added_tokens, model_->size(), [&](std::string_view text) {
    const int id = model_->id(text);
    return model_->is_unknown(id) ? std::nullopt : std::optional<int32_t>(id);
  });
  for (AddedToken& token : tokens) token.normalized = false;  // SentencePiece normalizes by itself, later
  added_tokens_ = std::make_unique<AddedTokens>(std::move(tokens), identity);
  decoder_ = parse_decoder(JsonNode(parse_json(kDecoder, file), file));
  const auto id_or_none = [](int id) { return id < 0 ? std::nullopt : std::optional<int32_t>(id); };
  bos_id_ = id_or_none(model_->bos_id());
  eos_id_ = id_or_none(model_->eos_id());
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int32_t> ids;
  if (add_special_tokens && add_bos_ && bos_id_) ids.push_back(*bos_id_);
  for (const Piece& piece : added_tokens_->split(replace_invalid_utf8(text), identity)) {
    if (piece.token != Piece::kNoToken) {
      ids.push_back(piece.token);
    } else {
      const std::vector<int32_t> part = encode_text(piece);
      ids.insert(ids.end(), part.begin(), part.end());
    }
  }
  if (add_special_tokens && add_eos_ && eos_id_) ids.push_back(*eos_id_);
  return ids;
}

std::vector<int32_t> SentencePieceTokenizer::encode_text(const Piece& piece) const {
  if (legacy_ || piece.at_start) return model_->encode(piece.text);
  // SentencePiece puts a blank before every text. As Hugging Face does, let it stand before a guard that is
  // then cut off.
  const std::string guard = "<unk>";
  const auto guard_length = static_cast<std::ptrdiff_t>(model_->encode(guard).size());
  std::vector<int32_t> ids = model_->encode(guard + piece.text);
  ids.erase(ids.begin(), ids.begin() + std::min(guard_length, std::ssize(ids)));
  return ids;
}

std::string SentencePieceTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  for (const int32_t id : ids) {
    if (const AddedToken* added = added_tokens_->token(id)) {
      if (!(skip_special && added->special)) tokens.push_back(added->spelling);
    } else if (id >= 0 && id < model_->size()) {
      tokens.push_back(model_->piece(id));
    }
  }
  return replace_invalid_utf8(decoder_(std::move(tokens)).front());  // pieces may hold any bytes
}

int32_t SentencePieceTokenizer::vocab_size() const {
  return std::max(model_->size(), added_tokens_->size());
}

std::optional<int32_t> SentencePieceTokenizer::token_id(std::string_view token) const {
  if (const auto added = added_tokens_->id(token)) return added;
  const int id = model_->id(token);
  return model_->is_unknown(id) ? std::nullopt : std::optional<int32_t>(id);
}

}  // namespace tessera
