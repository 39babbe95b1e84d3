// Integer GEMM on NVIDIA GPUs: the C++ API. It needs nothing else of the project, and no header of CUDA but
// the runtime's.
//
//   acc[m, n] = sum_k codes[m, k] * w8[n, k]                                                int32, exact
//   y[m, n]   = (float(acc - token_zero[m] * row_sum[n]) * scale[n]) * token_scale[m]
//               + sum_f outlier x[m, f] * outlier weight[n, f]  +  bias[n]  +  residual[m, n]
//
// in float and in this order (QQQ, epilogue), rounded once to the output type; the sum over outliers (QUIK)
// is that of the tensor cores, exact products added in float in an order of their own. Needs no workspace,
// keeps no state between calls, may be captured into a CUDA graph and called from several threads and streams
// at once. Results do not depend on timing, nor, where there are no outliers, on the configuration.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera::cuda {

/// How weights are stored: 8-bit codes; 4-bit codes -8..7 with one scale a row; or 4-bit codes 0..15 in
/// groups along K with an integer scale and zero point each, w8 = group_scale * (u - group_zero).
struct WeightLayout {
  int bits = 4;        ///< 4 or 8
  int group_size = 0;  ///< 0: none; otherwise 32, 64 or 128, with 4 bits

  friend bool operator==(const WeightLayout&, const WeightLayout&) = default;
};

/// The weights of one layer in device memory.
struct PackedWeights {
  WeightLayout layout;
  int64_t n = 0;                     ///< outputs
  int64_t k = 0;                     ///< inputs
  const void* blocks = nullptr;      ///< as packed_weights.h lays them out; 128-byte aligned
  const float* scale = nullptr;      ///< [N]; this and the next two 16-byte aligned
  const int32_t* row_sum = nullptr;  ///< [N], sum_k w8[n, k]; needed when activations have zero points
  const float* bias = nullptr;       ///< [N] or null
};

/// Inputs that bypass quantization (QUIK).
struct Outliers {
  int64_t count = 0;              ///< a multiple of 32, the last ones may be padding of zeros; 0: none
  const void* weights = nullptr;  ///< half, as packed_weights.h lays them out; 128-byte aligned
  const void* x = nullptr;        ///< half [M, count] row-major, 16-byte aligned
  int64_t stride = 0;             ///< elements from row to row, a multiple of 8
};

enum class OutputType : uint8_t {
  kFloat,
  kHalf,
  kBFloat16,
  kAccumulator  ///< acc itself, int32: scales, outliers, bias and residual are not applied
};

/// One product. All pointers are device memory.
struct GemmProblem {
  PackedWeights weights;
  int64_t m = 0;                  ///< tokens, >= 1
  const int8_t* codes = nullptr;  ///< [M, K] row-major, 16-byte aligned
  int64_t codes_stride = 0;       ///< elements from row to row, a multiple of 16
  int code_bits = 8;  ///< 8, or 4: all codes are in -8 .. 7. Not checked: higher bits may be dropped
  const float* token_scale = nullptr;   ///< [M]
  const int32_t* token_zero = nullptr;  ///< [M] or null: symmetric activations
  Outliers outliers;
  const void* residual = nullptr;  ///< null, or rows like `out`, of the output type; may be `out` itself
  void* out = nullptr;             ///< [M, N]
  int64_t out_stride = 0;          ///< elements from row to row
  OutputType output = OutputType::kHalf;

  constexpr bool adds_outliers() const { return outliers.count > 0 && output != OutputType::kAccumulator; }
};

enum class KernelFamily : uint8_t {
  kSm90a,    ///< for compute capability 9.0
  kSm80,     ///< for 8.0 and everything later
  kSm80Int4  ///< for 4-bit codes and 4-bit weights without groups (QUIK) on 8.0 to 8.9; later devices emulate
             ///< its products, slowly, and get it only when it is asked for
};

/// How a product is cut into thread blocks. Two kernels for 9.0: one for few tokens, whose warps each stream
/// their own run of K (32 outputs x 8 to 48 tokens, or 64 x 8 or 16, with 4 or 8 warps), and one on wgmma
/// (192 outputs x 32 to 160 tokens with 12 warps that multiply; 64 x 64 to 144, and 128 or 256 x 32 to 256
/// with 8). Those for 8.0 have the tiles of sm80/configs.h.
struct GemmConfig {
  int outputs = 0;  ///< outputs a block
  int tokens = 0;   ///< tokens a block
  int split = 1;    ///< blocks that share one tile along K, as a cluster: 1, 2, 4 or 8, as splits() says
  int warps = 8;
  KernelFamily family = KernelFamily::kSm90a;

  /// Runs the kernel for few tokens.
  bool streams() const { return outputs < 64 || (outputs == 64 && tokens < 64); }
  friend bool operator==(const GemmConfig&, const GemmConfig&) = default;
};

struct LaunchOptions {
  std::optional<GemmConfig> config;  ///< empty: the one expected to be the fastest on the device
  /// Launch with programmatic stream serialization: the kernel may start while the one before it on the
  /// stream still runs, and fetches weights meanwhile. It waits for that kernel before it touches anything
  /// but PackedWeights and Outliers::weights, which therefore must not be written by it. No effect on the
  /// kernels for 8.0.
  bool overlap_previous = false;
};

/// Why `device` cannot run the problem; empty when it can.
std::string gemm_obstacle(const GemmProblem& problem, int device);
inline bool can_run(const GemmProblem& problem, int device) {
  return gemm_obstacle(problem, device).empty();
}

/// Every configuration in which `device` can run the problem.
std::vector<GemmConfig> configs_for(const GemmProblem& problem, int device);

/// The configuration that the cost model (cost_model.h) expects to be the fastest on a device of compute
/// capability 9.0.
GemmConfig choose_config(WeightLayout layout, int64_t m, int64_t n, int64_t k);

/// The same for any problem that `device` can run.
GemmConfig choose_config(const GemmProblem& problem, int device);

/// Enqueues the product on `stream` of the current device. Throws Error when the problem cannot run or the
/// launch fails.
void gemm(const GemmProblem& problem, cudaStream_t stream, const LaunchOptions& options = {});

}  // namespace tessera::cuda
