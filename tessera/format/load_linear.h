// Quantized linears in a checkpoint, whichever program wrote it.
#pragma once

#include <string>

#include "tessera/format/quantization_config.h"

namespace tessera {

/// True when the checkpoint holds codes for the linear PREFIX, in any layout that is known here.
bool is_quantized(const Checkpoint& checkpoint, const std::string& prefix);

/// Reads PREFIX.* in the layout that `config` names, and validates. n and k_in are what config.json asks for.
/// Throws Error (folder, linear, reason).
QuantizedLinear load_quantized_linear(const Checkpoint& checkpoint, const std::string& prefix,
                                      const QuantizationConfig& config, int64_t n, int64_t k_in);

}  // namespace tessera
