// An integer layer on the CPU.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tessera/kernels/cpu/cpu_input.h"

namespace tessera {

class IntegerLinear : public Linear {
 public:
  /// Throws Error for weight-only layers and repeated channels.
  IntegerLinear(const QuantizedLinear& linear, const CpuKernels& kernels);

  int64_t n() const override { return weights_.n; }
  int64_t k_in() const override { return k_in_; }
  KernelInfo info() const override;

  void reserve(CpuInput& input, int64_t m) const;
  /// Prepares row t of `input` from x [k_in]: map, outliers, codes.
  void quantize_row(const float* x, int64_t t, CpuInput& input) const;
  /// y [m, n] (+)= the layer's output.
  void forward(const CpuInput& input, int64_t m, float* y, bool accumulate) const;
  /// acc [m, n], the sums before the epilogue. For tests.
  void accumulators(const CpuInput& input, int64_t m, std::span<int32_t> acc) const;

 private:
  void build_map(const QuantizedLinear& linear);
  void build_epilogue(const QuantizedLinear& linear);
  void check(const CpuInput& input, int64_t m) const;
  Epilogue epilogue(int64_t panel) const;
  void map_row(const float* x, float* mapped) const;

  const CpuKernels& kernels_;
  PackedWeights weights_;
  int64_t k_in_;
  RowQuantizer quantizer_;
  std::string kernel_;
  int weight_bits_;
  // x'[c] = sum of gain[i] * x[index[i]] over i in [offset[c], offset[c + 1]). No index: x' = x; no gain: 1;
  // no offset: one source a column.
  std::vector<int32_t> map_index_, map_offset_;
  std::vector<float> map_gain_;
  std::vector<int32_t> outlier_index_;
  // Padded to whole panels; outlier weights [panel][outlier][kPanel].
  std::vector<float> scale_, bias_, outlier_weight_;
  std::vector<int32_t> row_sum_;
};

}  // namespace tessera
