// The "quantization_config" of config.json: how the inputs of quantized linears and the cache are
// quantized.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tessera/format/foreign/readers.h"
#include "tessera/format/kv_format.h"
#include "tessera/format/model_config.h"
#include "tessera/format/quantized_linear.h"

namespace tessera {

/// {"quant_method": "tessera", "version": 1, "recipe": {...}, "activation": {...}, "activation_overrides":
/// {"down_proj": {...}}, "kv_bits": 16}; read, too: those of the tools in foreign/readers.h.
struct QuantizationConfig {
  ActivationFormat activation = {};
  std::map<std::string, ActivationFormat> overrides = {};  ///< by the last component of a linear's name
  KvFormat kv_format = KvFormat::kF16;  ///< of the cache that the model was calibrated for; kv_bits on disk
  nlohmann::json recipe = nullptr;      ///< a record of how tessera made it; null for other tools' models
  LinearReader read_linear = nullptr;   ///< of another tool's model: reads a linear, `activation` included

  /// The format of a linear of ours, such as "model.layers.0.mlp.down_proj".
  const ActivationFormat& activation_of(const std::string& linear_name) const;
  nlohmann::json to_json() const;
};

/// Throws Error (file, key) when quant_method is no known one, the version is unknown or a format is
/// malformed. A config.json without the section describes a float model: the result is then empty.
std::optional<QuantizationConfig> read_quantization_config(const ModelConfig& config);

/// "down_proj" of "mlp.down_proj".
std::string last_component(const std::string& name);

}  // namespace tessera
