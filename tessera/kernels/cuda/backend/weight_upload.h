// Weights into device memory. Host bytes go through page-locked pieces, because a copy from a mapped file
// stops at every page; the device brings them into the order or type that its kernels read.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "tessera/format/quantized_linear.h"
#include "tessera/kernels/backend.h"
#include "tessera/kernels/cuda/backend/device_memory.h"

namespace tessera::cuda {

/// FloatCodes::words and groups.
struct FloatCodesMemory {
  std::unique_ptr<DeviceBuffer> words, groups;
};

/// All work happens on `stream`; what is returned may be used there at once.
class WeightUpload {
 public:
  explicit WeightUpload(cudaStream_t stream);
  ~WeightUpload();
  WeightUpload(const WeightUpload&) = delete;
  WeightUpload& operator=(const WeightUpload&) = delete;

  /// Codes and group parameters of layers that can_join(), for PackedWeights::blocks.
  std::unique_ptr<DeviceBuffer> packed(std::span<const QuantizedLinear* const> parts);
  /// Their outlier columns, for Outliers::weights; null without any.
  std::unique_ptr<DeviceBuffer> packed_outliers(std::span<const QuantizedLinear* const> parts);
  /// half [rows of all parts, K]. Throws Error when a value exceeds 65504.
  std::unique_ptr<DeviceBuffer> halves(std::span<const TensorView> parts);
  /// 4-bit codes in groups of `group_size` of layers that can_join(). Throws Error as halves().
  FloatCodesMemory float_codes(std::span<const QuantizedLinear* const> parts, int64_t group_size);

 private:
  static constexpr size_t kPieceBytes = size_t{8} << 20;
  /// A piece, and when the device has read it.
  struct Piece {
    PinnedBuffer memory{kPieceBytes};
    cudaEvent_t read = nullptr;
  };
  /// Device memory that the next layer reuses.
  class Staging {
   public:
    std::byte* reserve(size_t bytes);

   private:
    std::unique_ptr<DeviceBuffer> memory_;
  };

  void copy(const void* from, size_t bytes, std::byte* to);
  /// The tensors one after another.
  const void* stage(std::span<const TensorView> tensors, Staging& staging);
  /// A field of all parts; null when they do not have it.
  const void* stage(std::span<const QuantizedLinear* const> parts, Tensor QuantizedLinear::*field,
                    Staging& staging);
  /// Throws Error when a kernel has set too_large_.
  void check_too_large();

  cudaStream_t stream_;
  std::array<Piece, 4> pieces_;
  size_t next_ = 0;  ///< of the pieces
  Staging codes_, group_scale_, group_zero_;
  DeviceBuffer too_large_{sizeof(int32_t)};
};

}  // namespace tessera::cuda
