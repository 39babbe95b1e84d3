// Whether the SentencePiece library can be trusted with a model.
#pragma once

#include <string>
#include <string_view>

namespace tessera {

/// The library looks characters up in the map of a model's normalizer without looking where it reads. Throws
/// Error when that map, of the model with the content `bytes`, leads out of itself. `file` opens messages.
void check_sentencepiece(std::string_view bytes, const std::string& file);

}  // namespace tessera
