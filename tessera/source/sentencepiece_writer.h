// Writing a SentencePiece model from its vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

/// Numbers as in SentencePiece's own file, and in tokenizer.ggml.token_type.
enum class PieceType : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct SentencePiece {
  std::string text;
  float score = 0;  ///< pieces of higher score merge first
  PieceType type = PieceType::kNormal;
};

struct SentencePieceVocabulary {
  std::vector<SentencePiece> pieces = {};    ///< in the order of their ids
  int32_t bos = -1, eos = -1, padding = -1;  ///< ids; -1: none
  bool add_space_prefix = true;              ///< a blank in front of every text
};

/// The bytes of a tokenizer.model of type BPE: sentencepiece_model.proto, with the normalizer "identity", as
/// LLaMA's. Bytes stand for unknown characters where there are pieces of that type.
std::string write_sentencepiece(const SentencePieceVocabulary& vocabulary);

}  // namespace tessera
