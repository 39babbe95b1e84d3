// Float layers on the CPU, in the type of their weights: packed for sums in a fixed order, as in the file
// otherwise.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "tessera/kernels/cpu/cpu_linear.h"
#include "tessera/kernels/cpu/packed_weights.h"

namespace tessera {

class FloatLinear : public CpuLinear {
 public:
  /// Weights [N, K] in F32, F16 or BF16 with one K. Throws Error for anything else.
  FloatLinear(std::span<const FloatWeight> parts, SumOrder order, const CpuKernels& kernels);

  int64_t n() const override { return n_; }
  int64_t k_in() const override { return k_; }
  KernelInfo info() const override;

  void forward(const CpuInput& input, const Rows& out, bool accumulate) const override;
  /// Row `index` of the first weight as floats [K].
  void copy_row(int64_t index, float* out) const;

 private:
  struct Part {
    AlignedBytes packed;                ///< panels [k][kPanel], or empty
    StoredMatrix weight;                ///< [n, k] of the file, or [panels * k, kPanel] of `packed`
    int64_t first, n;                   ///< outputs
    int64_t first_panel;                ///< panels of outputs begin anew with each part
    std::vector<float> bias;            ///< [n] or empty
    std::shared_ptr<const void> owner;  ///< of the file's weight, where its view is one

    bool is_packed() const { return packed.size() > 0; }
  };
  /// Outputs of one panel of a part: y = x W^T + bias for `count` rows.
  void panel_forward(const Part& part, int64_t panel, const FloatRows& x, int64_t count, const Rows& out,
                     int64_t token, bool accumulate) const;

  const CpuKernels& kernels_;
  int64_t n_ = 0, k_ = 0, panels_ = 0;
  std::vector<Part> parts_;
};

}  // namespace tessera
