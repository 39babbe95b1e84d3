// The tokenizer of a Hugging Face folder as the metadata of a GGUF file.
#pragma once

#include <nlohmann/json.hpp>

#include "tessera/source/model_files.h"

namespace tessera {

/// "tokenizer.*": tokens, types, merges or scores, the pre-tokenizer's name, special tokens, chat template.
/// `vocab_size` rows of the embedding have a token each; unused ones fill up. Throws Error for a tokenizer
/// that llama.cpp has no name for: a wrong one would cost accuracy without a sign.
nlohmann::ordered_json gguf_vocabulary(const ModelFiles& files, const std::filesystem::path& model,
                                       int64_t vocab_size);

}  // namespace tessera
