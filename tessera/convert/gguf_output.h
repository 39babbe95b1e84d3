// A converted model as a GGUF file.
#pragma once

#include "tessera/convert/conversion.h"

namespace tessera {

/// Writes `path`, whole or not at all, one tensor in memory at a time. Linears with codes have the types that
/// `outcomes` name; other matrices keep their type, vectors become F32. Throws Error when llama.cpp has no
/// architecture or tokenizer of this kind, or no name for a tensor.
void write_gguf_file(const SourceModel& model, const std::vector<LinearOutcome>& outcomes,
                     const std::filesystem::path& path, Reporter& reporter);

/// Throws Error as write_gguf_file for a model that llama.cpp has no architecture or tokenizer for.
void check_gguf(const SourceModel& model);

}  // namespace tessera
