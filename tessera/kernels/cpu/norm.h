// NormWeights as the row kernels read them.
#pragma once

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {

inline RowNorm row_norm(const NormWeights& weights) {
  return {weights.layer_norm, weights.eps, weights.gain->floats(),
          weights.bias ? weights.bias->floats() : nullptr};
}

}  // namespace tessera
