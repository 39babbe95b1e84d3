// Weights into the forms that kernels read, on the device. packed_weights.h defines the packed orders, and
// its functions what these must give, byte for byte.
#pragma once

#include "tessera/base/dtype.h"
#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda {

/// The codes of a layer as a checkpoint holds them. All pointers are device memory, 16-byte aligned.
struct PackProblem {
  WeightLayout layout;
  int64_t n = 0, k = 0;         ///< k: a multiple of 4
  const void* codes = nullptr;  ///< [N, K] bytes, or [N, K / 2]: low nibble = even k
  // With groups:
  int64_t group_size = 0;               ///< of the checkpoint: layout.group_size, or a multiple of it
  const int8_t* group_scale = nullptr;  ///< [N, K / group_size]
  const uint8_t* group_zero = nullptr;  ///< the same; null: 8 everywhere
  void* blocks = nullptr;               ///< as pack_weights() lays them out
};
void pack(const PackProblem& problem, cudaStream_t stream);

/// packed = pack_outliers() of half weights [n, count]; `packed` is zeroed before.
void pack_outliers(const void* weights, int64_t n, int64_t count, void* packed, cudaStream_t stream);

/// halves[i] = values[i], rounded; sets *too_large to 1 where one exceeds 65504. `type`: F32, F16 or BF16.
void to_halves(const void* values, DType type, int64_t count, void* halves, int32_t* too_large,
               cudaStream_t stream);

/// 4-bit codes as FloatCodes wants them. Pointers are device memory, 16-byte aligned.
struct FloatCodesProblem {
  int64_t n = 0, k = 0;         ///< k: a multiple of 32
  const void* codes = nullptr;  ///< [N, K / 2]: low nibble = even k
  bool twos_complement = false;
  int64_t group_size = 0;  ///< a multiple of 32
  // [N, K / group_size]:
  const void* group_scale = nullptr;  ///< half with `half_scale`, otherwise int8; null: 1 everywhere
  bool half_scale = false;
  const uint8_t* group_zero = nullptr;  ///< null: 8 everywhere
  void* words = nullptr;                ///< uint32 [N, K / 8]
  void* groups = nullptr;               ///< half2 [N, K / group_size]
};
/// Sets *too_large to 1 where a weight may exceed 65504.
void pack_float_codes(const FloatCodesProblem& problem, int32_t* too_large, cudaStream_t stream);

}  // namespace tessera::cuda
