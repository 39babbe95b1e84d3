// What linear layers read on the device: half rows, or codes with a scale a token and outliers beside them.
#pragma once

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cuda/activation.h"
#include "tessera/kernels/cuda/backend/device_memory.h"

namespace tessera::cuda {

class CudaInputFormat : public InputFormat {
 public:
  /// Half rows.
  explicit CudaInputFormat(int64_t width);
  /// As `linear` reads its input; weight-only layers read half rows. Throws Error with the reason when no
  /// kernel makes such codes.
  explicit CudaInputFormat(const QuantizedLinear& linear);

  int64_t width() const override { return width_; }
  bool halves() const { return halves_; }
  int64_t k() const { return k_; }
  int64_t outliers() const { return outliers_; }
  /// Outliers with the zeros behind them that the product wants.
  int64_t outlier_stride() const;
  /// The part of a quantization that depends on the format alone.
  ActivationProblem problem() const;

 private:
  int64_t width_, k_, outliers_ = 0;
  bool halves_;
  int bits_ = 16;
  bool symmetric_ = true;
  float static_scale_ = 0;
  std::unique_ptr<DeviceBuffer> index_, gain_, offset_, repeat_, outlier_index_;
};

class CudaInput : public LinearInput {
 public:
  CudaInput(int64_t max_rows, int64_t max_width);

  const CudaInputFormat& how() const { return static_cast<const CudaInputFormat&>(*format); }
  /// The problem that makes rows in `how` here, but for its source and rows.
  ActivationProblem make(const CudaInputFormat& how, int64_t m);
  /// Half rows that are somewhere already.
  void refer_to(const CudaInputFormat& how, const void* halves, int64_t stride);

  const int8_t* codes() const { return codes_.as<int8_t>(); }
  const float* scale() const { return scale_.as<float>(); }
  const int32_t* zero() const { return zero_.as<int32_t>(); }
  /// Half rows, or outliers.
  const void* halves() const { return halves_at_; }
  int64_t stride() const { return stride_; }

 private:
  int64_t max_width_;
  DeviceBuffer codes_, scale_, zero_, halves_;
  const void* halves_at_ = nullptr;
  int64_t stride_ = 0;  ///< of codes, or of half rows
};

}  // namespace tessera::cuda
