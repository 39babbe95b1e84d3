// The tokenizer files of a GGUF model.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tessera/source/gguf_model.h"

namespace tessera {

/// Whether the tokenizer is a SentencePiece model ("llama" in GGUF), not byte-level BPE ("gpt2").
bool is_sentencepiece(const GgufModel& model);

/// tokenizer.json of a byte-level BPE tokenizer: the file's own copy of it (tokenizer.huggingface.json), else
/// made from tokens, merges, token types and the name of the pre-tokenizer. Throws Error, naming file and
/// key, for other kinds of tokenizers, pre-tokenizers that are not known, and vocabularies that contradict
/// themselves.
nlohmann::json gguf_tokenizer(const GgufModel& model);

/// tokenizer.model of a SentencePiece tokenizer.
std::string gguf_tokenizer_model(const GgufModel& model);

/// tokenizer_config.json: special tokens, whether BOS and EOS are added, chat templates.
nlohmann::json gguf_tokenizer_config(const GgufModel& model);

}  // namespace tessera
