// The weights of a model, checked, converted and bound to kernels.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tessera/arch/linear_tensors.h"
#include "tessera/format/quantization_config.h"
#include "tessera/kernels/backend.h"

namespace tessera {

/// One linear layer as it is stored and executed.
struct LinearInfo {
  std::string name;  ///< such as "model.layers.3.mlp.up_proj"
  int64_t n = 0, k = 0;
  size_t bytes = 0;  ///< in the checkpoint, scales and bias included
  KernelInfo kernel;
  const Linear* linear = nullptr;  ///< that runs it, with its neighbours where they are joined
};

/// Neighbouring linears of a site that run as one.
struct LinearGroup {
  std::unique_ptr<InputFormat> input;  ///< null: the rows prepared for the group before it serve
  std::unique_ptr<Linear> linear;
  int64_t first_output = 0;  ///< among the outputs of the site, in the order of its readers
};

struct BlockWeights {
  std::array<NormWeights, kNormCount> norms;    ///< empty where the spec has none
  std::vector<std::vector<LinearGroup>> sites;  ///< in the order of the spec's
};

struct ModelWeights {
  std::unique_ptr<Linear> embedding;           ///< [vocab_size, hidden_size]
  std::unique_ptr<Linear> position_embedding;  ///< null with rotary positions
  std::unique_ptr<Linear> untied_lm_head;      ///< null when the embedding serves
  std::optional<NormWeights> embedding_norm;
  std::unique_ptr<Buffer> alibi_slopes;  ///< [n_heads]; null without ALiBi
  NormWeights final_norm;
  std::vector<BlockWeights> blocks;
  std::vector<LinearInfo> linears;  ///< in order of execution, lm_head last
  int64_t max_input_width = 0;      ///< widest input of a linear, before or behind its map

  std::unique_ptr<InputFormat> lm_head_input;

  const Linear& lm_head() const { return untied_lm_head ? *untied_lm_head : *embedding; }
};

/// `values` in memory of the backend's device.
std::unique_ptr<Buffer> to_device(std::span<const float> values, Backend& backend);

/// Loads everything that `spec` names; `checkpoint` must outlive the result. Throws Error when a tensor is
/// missing or has another shape, a norm, bias or scale is not finite, codes are damaged, or quantized
/// tensors come without a `quantization`.
ModelWeights load_weights(const ModelSpec& spec, const Checkpoint& checkpoint,
                          const std::optional<QuantizationConfig>& quantization, Backend& backend);

}  // namespace tessera
