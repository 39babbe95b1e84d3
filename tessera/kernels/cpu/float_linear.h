// A float layer on the CPU: weights stay where they are, in their own type.
#pragma once

#include <span>
#include <vector>

#include "tessera/kernels/cpu/cpu_input.h"

namespace tessera {

class FloatLinear : public Linear {
 public:
  /// weight [N, K] in F32, F16 or BF16, which must outlive the layer. Throws Error for anything else.
  FloatLinear(const TensorView& weight, std::span<const float> bias, const CpuKernels& kernels);

  int64_t n() const override { return n_; }
  int64_t k_in() const override { return k_; }
  KernelInfo info() const override;

  /// y [m, n] (+)= x W^T + bias.
  void forward(const CpuInput& input, int64_t m, float* y, bool accumulate) const;
  /// Row `index` of the weight as floats [K].
  void copy_row(int64_t index, float* out) const;

 private:
  const CpuKernels& kernels_;
  StoredMatrix weight_;
  int64_t n_, k_;
  std::vector<float> bias_;  ///< [N] or empty
};

}  // namespace tessera
