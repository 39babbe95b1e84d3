// The "quantization_config" of config.json: how the inputs of quantized linears and the cache are
// quantized.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "tessera/format/kv_format.h"
#include "tessera/format/model_config.h"
#include "tessera/format/quantized_linear.h"

namespace tessera {

/// {"quant_method": "tessera", "version": 1, "recipe": {...}, "activation": {...}, "activation_overrides":
/// {"down_proj": {...}}, "kv_bits": 16}; or {"quant_method": "qqq", "wbits": 4}. The recipe is a record of
/// how the checkpoint was made; nothing here reads it.
struct QuantizationConfig {
  ActivationFormat activation;
  KvFormat kv_format = KvFormat::kF16;  ///< of the cache that the model was calibrated for; kv_bits on disk
  std::map<std::string, ActivationFormat> overrides;  ///< by the last component of a linear's name

  /// The format of a linear such as "model.layers.0.mlp.down_proj".
  const ActivationFormat& activation_of(const std::string& linear_name) const;
};

/// Throws Error (file, key) when quant_method is another tool's, the version is unknown or a format is
/// malformed. A config.json without the section describes a float model: the result is then empty.
std::optional<QuantizationConfig> read_quantization_config(const ModelConfig& config);

}  // namespace tessera
