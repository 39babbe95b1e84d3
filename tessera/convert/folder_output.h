// A converted model as a Hugging Face folder.
#pragma once

#include "tessera/base/atomic_folder.h"
#include "tessera/convert/conversion.h"

namespace tessera {

/// Fills `folder`: one safetensors shard a block and one for what lies outside, the index, config.json with
/// `section` as its quantization_config (none where it is null), the settings file that the tool of `writer`
/// wants, and the source's tokenizer and other files as they are.
void write_folder(const SourceModel& model, const std::vector<LinearOutcome>& outcomes,
                  const foreign::Writer& writer, const std::string& variant, const nlohmann::json& section,
                  AtomicFolder& folder, Reporter& reporter);

}  // namespace tessera
