// Linear layers on the device.
#pragma once

#include <unordered_map>

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cuda/backend/cublas.h"
#include "tessera/kernels/cuda/backend/cuda_input.h"
#include "tessera/kernels/cuda/backend/weight_upload.h"
#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda {

class CudaLinear : public Linear {
 public:
  /// out [m, n] = input * W^T + bias for m = out.count rows, + out with `accumulate`. `overlap`: see
  /// LaunchOptions.
  virtual void run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
                   bool overlap) const = 0;
};

/// Codes times codes, through gemm.h.
class IntegerLinear : public CudaLinear {
 public:
  /// Of layers that can_join(). Throws Error with the reason when no kernel runs them.
  IntegerLinear(std::span<const QuantizedLinear* const> parts, WeightUpload& upload);

  int64_t n() const override { return weights_.n; }
  int64_t k_in() const override { return k_in_; }
  KernelInfo info() const override { return info_; }
  /// "OUTPUTS x TOKENS", and over how many blocks K is split.
  std::string tile(int64_t rows) const override;
  void run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
           bool overlap) const override;

 private:
  /// What does not depend on a launch.
  GemmProblem problem(int64_t m) const;
  const GemmConfig& config_for(const GemmProblem& problem) const;

  KernelInfo info_;
  int64_t k_in_;
  int code_bits_;
  bool has_zero_;
  PackedWeights weights_;
  Outliers outliers_;
  std::unique_ptr<DeviceBuffer> blocks_, outlier_weights_, scale_, row_sum_, bias_;
  mutable std::unordered_map<int64_t, GemmConfig> configs_;  ///< by tokens, chosen on first use
};

/// Weight-only layers: 4-bit codes, made to half where they are multiplied.
class CodeLinear : public CudaLinear {
 public:
  /// True for 4-bit codes that the kernel reads: inputs as they come, inputs and groups multiples of 32.
  static bool runs(const QuantizedLinear& linear);
  /// Of layers that can_join() and of which it runs() the first.
  CodeLinear(std::span<const QuantizedLinear* const> parts, WeightUpload& upload);

  int64_t n() const override { return n_; }
  int64_t k_in() const override { return k_; }
  KernelInfo info() const override { return info_; }
  void run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
           bool overlap) const override;

 private:
  KernelInfo info_;
  int64_t n_, k_, group_size_;
  FloatCodesMemory codes_;
  std::unique_ptr<DeviceBuffer> scale_, bias_;
};

/// Half times half: float_gemm.h where the order of sums is fixed, otherwise cuBLAS.
class HalfLinear : public CudaLinear {
 public:
  /// `cublas`: null where the order of sums is fixed.
  HalfLinear(std::span<const FloatWeight> parts, const Cublas* cublas, WeightUpload& upload);
  /// A weight-only layer that no CodeLinear runs, its weights over the float inputs expanded: map, gains and
  /// outliers are in them.
  HalfLinear(const QuantizedLinear& linear, WeightUpload& upload);

  int64_t n() const override { return n_; }
  int64_t k_in() const override { return k_; }
  KernelInfo info() const override { return info_; }
  void run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
           bool overlap) const override;
  /// half [N, K]
  const void* weights() const { return weights_->as<const void>(); }

 private:
  void set_weights(std::span<const TensorView> parts, WeightUpload& upload);

  KernelInfo info_;
  int64_t n_ = 0, k_ = 0;
  const Cublas* cublas_ = nullptr;
  std::unique_ptr<DeviceBuffer> weights_, bias_;
};

}  // namespace tessera::cuda
