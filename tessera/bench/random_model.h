// A checkpoint of random weights in the shape of a real model.
#pragma once

#include <filesystem>

#include "tessera/bench/gemm_bench.h"

namespace tessera {

/// Writes a folder for the model that the config.json in `config` (the file or its folder) describes, every
/// linear in `format` and lm_head in floats or in 8 bits; all blocks hold the same weights. Throws Error when
/// the config is malformed, is that of a quantized model, or groups do not fit its layers.
void write_random_model(const std::filesystem::path& config, GemmFormat format,
                        const std::filesystem::path& folder, bool lm_head_w8a8 = false);

}  // namespace tessera
