// An lm_head in 8 bits.
#pragma once

#include <nlohmann/json.hpp>

#include "tessera/quant/recipe/scheme.h"
#include "tessera/quant/run/shards.h"

namespace tessera {

constexpr LinearScheme kLmHeadScheme{.weight = {.bits = 8}, .activation = {}};

/// Scales of the head's input channels, [hidden] on the CPU: inputs divided by them and weights [vocab,
/// hidden] multiplied by them have channels of equal size, the root mean square of both sides (SmoothQuant,
/// arXiv 2211.10438, equation 4 with alpha 0.5, and that in place of maxima). All ones where the outputs'
/// error on tokens that the scales have not seen does not fall. `inputs` [tokens, hidden] are samples of what
/// the final norm gives; `report` takes both errors, ||rounded - float|| / ||float|| over a part of the
/// vocabulary.
at::Tensor balance_lm_head(const TensorView& weight, const at::Tensor& inputs, nlohmann::json& report);

/// Codes, rounded to nearest, of weights [vocab, hidden] whose columns are multiplied by `scales` [hidden];
/// some outputs at a time: as floats they can be larger than all that a run holds otherwise. `bias` [vocab]
/// can be undefined.
QuantizedLinear round_lm_head(const TensorView& weight, const at::Tensor& bias, const at::Tensor& scales);

/// Bytes that the codes add to the checkpoint, an upper bound, and bytes that both functions hold at most.
uint64_t lm_head_disk_bytes(const ModelSpec& spec);
size_t lm_head_bytes(const ModelSpec& spec);

}  // namespace tessera
