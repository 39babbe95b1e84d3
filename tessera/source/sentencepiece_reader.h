// Reading the vocabulary of a SentencePiece model.
#pragma once

#include <string>
#include <string_view>

#include "tessera/source/sentencepiece_writer.h"

namespace tessera {

/// What `bytes`, the content of a tokenizer.model that `file` names, hold. Throws Error when they are no
/// SentencePiece model, or one that a SentencePieceVocabulary does not describe: of another type than BPE,
/// with a normalizer that changes characters or takes blanks away.
SentencePieceVocabulary read_sentencepiece(std::string_view bytes, const std::string& file);

}  // namespace tessera
