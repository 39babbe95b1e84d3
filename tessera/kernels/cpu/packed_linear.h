// A quantized layer on the CPU: codes or floats times packed integer weights.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tessera/kernels/cpu/cpu_linear.h"
#include "tessera/kernels/cpu/row_preparation.h"

namespace tessera {

class PackedLinear : public CpuLinear {
 public:
  /// Reads rows that `input` prepares, which must outlive the layer.
  PackedLinear(const QuantizedLinear& linear, const RowPreparation& input, const CpuKernels& kernels);

  int64_t n() const override { return weights_.n; }
  int64_t k_in() const override { return input_.width(); }
  KernelInfo info() const override { return info_; }

  void forward(const CpuInput& input, const Rows& out, bool accumulate) const override;
  /// acc [m, n], the integer sums before the epilogue. For tests.
  void accumulators(const CpuInput& input, int64_t m, std::span<int32_t> acc) const;

 private:
  void build_epilogue(const QuantizedLinear& linear);
  void check(const CpuInput& input, int64_t m) const;
  Epilogue epilogue(int64_t panel) const;

  const CpuKernels& kernels_;
  PackedWeights weights_;
  const RowPreparation& input_;
  KernelInfo info_;
  // Padded to whole panels; outlier weights [panel][outlier][kPanel].
  std::vector<float> scale_, bias_;
  std::vector<int32_t> row_sum_;
  std::vector<Half> outlier_weight_;
};

}  // namespace tessera
