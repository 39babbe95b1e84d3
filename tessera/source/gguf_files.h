// The files of a Hugging Face folder, made from the metadata of a GGUF model.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tessera/source/gguf_model.h"

namespace tessera {

/// config.json, generation_config.json, tokenizer_config.json and tokenizer.json or tokenizer.model, each
/// with what makes its content. A maker throws Error, naming file and key, for metadata that has no
/// counterpart.
std::map<std::string, std::function<std::string()>, std::less<>> gguf_files(
    std::shared_ptr<const GgufModel> model);

}  // namespace tessera
