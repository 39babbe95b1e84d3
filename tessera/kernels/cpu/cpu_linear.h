// What the CPU backend asks of a linear layer.
#pragma once

#include "tessera/kernels/cpu/cpu_input.h"

namespace tessera {

class CpuLinear : public Linear {
 public:
  /// out [out.count, n] (+)= the layer's output for the first prepared rows.
  virtual void forward(const CpuInput& input, const Rows& out, bool accumulate) const = 0;
};

}  // namespace tessera
