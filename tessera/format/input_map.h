// The input map of a QuantizedLinear, spelled out.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// x'[c] = sum over i in [offset[c], offset[c + 1]) of gain[i] * x[index[i]], added in this order, starting
/// from 0. The identity and the dropping of outliers are written in the same form.
struct InputMap {
  explicit InputMap(const QuantizedLinear& linear);

  std::vector<int32_t> index;   ///< [nnz]
  std::vector<float> gain;      ///< [nnz]
  std::vector<int32_t> offset;  ///< [K + 1]
};

}  // namespace tessera
