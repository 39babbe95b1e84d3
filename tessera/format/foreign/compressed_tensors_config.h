// What compressed-tensors' "quantization_config" says about each linear.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tessera/format/foreign/module_pattern.h"
#include "tessera/format/quantized_linear.h"

namespace tessera::foreign {

/// How the linears of a config group are stored.
struct CompressedTensorsScheme {
  bool packed = true;  ///< weight_packed, else one code a byte
  int bits = 4;
  bool symmetric = true;
  int64_t group_size = 0;       ///< 0: one scale an output or tensor
  bool act_order = false;       ///< inputs are in groups by an order that the layer stores
  ActivationFormat activation;  ///< of the input
};

class CompressedTensorsConfig {
 public:
  /// Throws Error (file, key) for what cannot run here: floats of few bits, blocks, activation scales of
  /// groups, online transforms, sparsity, quantized outputs.
  explicit CompressedTensorsConfig(const JsonNode& section);

  /// The scheme of the linear with this full name; null when none targets it or it is ignored.
  const CompressedTensorsScheme* scheme_of(const std::string& linear) const;

 private:
  struct Target {
    ModulePattern pattern;
    size_t scheme;
  };

  std::vector<CompressedTensorsScheme> schemes_;
  std::vector<Target> targets_;  ///< by precedence
  std::vector<ModulePattern> ignored_;
};

}  // namespace tessera::foreign
