// config.json as the metadata of a GGUF file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tessera/convert/source_model.h"

namespace tessera {

/// "llama", "qwen2" or "qwen3". Throws Error when no architecture of llama.cpp computes what the model does.
std::string gguf_architecture(const SourceModel& model);

/// "general.*" and the parameters of the architecture.
nlohmann::ordered_json gguf_parameters(const SourceModel& model, const std::string& name);

}  // namespace tessera
