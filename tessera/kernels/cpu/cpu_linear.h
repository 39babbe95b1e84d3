// What the CPU backend asks of a linear layer.
#pragma once

#include "tessera/kernels/cpu/cpu_input.h"

namespace tessera {

class CpuLinear : public Linear {
 public:
  /// Makes room in `input` for m rows as this layer reads them.
  virtual void reserve(CpuInput& input, int64_t m) const = 0;
  /// Where a producer may write row t [k_in] before it is prepared: its final place, or scratch of the
  /// thread.
  virtual float* row(CpuInput& input, int64_t t) const = 0;
  /// Prepares row t from x [k_in], which may be what row() gave.
  virtual void prepare_row(const float* x, int64_t t, CpuInput& input) const = 0;
  /// y [m, n] (+)= the layer's output for the first m prepared rows.
  virtual void forward(const CpuInput& input, int64_t m, float* y, bool accumulate) const = 0;
};

}  // namespace tessera
