// Several quantized layers with one input as a single layer.
#pragma once

#include <span>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// True when the outputs of both can be those of one layer: the same input, weight format and optional
/// tensors.
bool can_join(const QuantizedLinear& a, const QuantizedLinear& b);

/// Outputs of all parts together.
int64_t outputs_of(std::span<const QuantizedLinear* const> parts);

/// A tensor with a row an output, of all parts, one after another; empty where they have none.
Tensor join_field(std::span<const QuantizedLinear* const> parts, Tensor QuantizedLinear::*field);

/// One layer whose outputs are those of `parts`, one after another. Every pair of parts can_join().
QuantizedLinear join_outputs(std::span<const QuantizedLinear* const> parts);

}  // namespace tessera
