// A float layer on the CPU: weights stay where they are, in their own type.
#pragma once

#include <span>
#include <vector>

#include "tessera/kernels/cpu/cpu_linear.h"

namespace tessera {

class FloatLinear : public CpuLinear {
 public:
  /// weight [N, K] in F32, F16 or BF16, which must outlive the layer. Throws Error for anything else.
  FloatLinear(const TensorView& weight, std::span<const float> bias, const CpuKernels& kernels);

  int64_t n() const override { return n_; }
  int64_t k_in() const override { return k_; }
  KernelInfo info() const override;

  void reserve(CpuInput& input, int64_t m) const override { input.reserve_floats(m, k_); }
  float* row(CpuInput& input, int64_t t) const override { return input.float_row(t); }
  void prepare_row(const float* x, int64_t t, CpuInput& input) const override;
  void forward(const CpuInput& input, int64_t m, float* y, bool accumulate) const override;
  /// Row `index` of the weight as floats [K].
  void copy_row(int64_t index, float* out) const;

 private:
  const CpuKernels& kernels_;
  StoredMatrix weight_;
  int64_t n_, k_;
  std::vector<float> bias_;  ///< [N] or empty
};

}  // namespace tessera
