// config.json and generation_config.json of a GGUF model.
#pragma once

#include <nlohmann/json.hpp>

#include "tessera/source/gguf_model.h"

namespace tessera {

/// What Hugging Face's config.json of the model says. Throws Error, naming file and key, when a parameter is
/// missing, out of range, or one whose meaning is not known.
nlohmann::ordered_json gguf_config(const GgufModel& model);

/// BOS, padding, and all ids that end a text: of the text, of a turn, of a message.
nlohmann::ordered_json gguf_generation_config(const GgufModel& model);

}  // namespace tessera
