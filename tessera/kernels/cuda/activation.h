// Activations to int8 codes on NVIDIA GPUs, fused with what comes before a linear layer: nothing, RMSNorm,
// LayerNorm or SiLU(gate) * up. One pass over memory; results feed gemm.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda {

enum class ActivationSource : uint8_t {
  kPlain,        ///< x
  kRmsNorm,      ///< x / sqrt(mean(x^2) + epsilon) * weight
  kLayerNorm,    ///< (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias
  kSiluProduct,  ///< x / (1 + exp(-x)) * up
};

/// Rows y[m, :] of the source, in float, become per-token symmetric codes of `bits` bits: with a = max |y|,
/// scale[m] = a / qmax and codes[m, k] = rint(y * (qmax / a)), qmax = 2^(bits-1) - 1; rows with a < 2^-100
/// become 0, rows that are not finite get a NaN scale and codes 0 (QQQ, activations). All pointers are device
/// memory, 16-byte aligned.
struct ActivationProblem {
  ActivationSource source = ActivationSource::kPlain;
  int64_t m = 0, k = 0;                 ///< tokens, inputs: a multiple of 16, at most 32768
  const void* x = nullptr;              ///< [M, K]
  const void* up = nullptr;             ///< [M, K], for kSiluProduct
  OutputType type = OutputType::kHalf;  ///< of x and up: kFloat, kHalf or kBFloat16
  int64_t stride = 0;                   ///< of x and up, elements from row to row, a multiple of 8
  const float* weight = nullptr;        ///< [K], for the norms
  const float* bias = nullptr;          ///< [K] or null, for kLayerNorm
  float epsilon = 1e-5f;
  int bits = 8;              ///< 2 .. 8
  int8_t* codes = nullptr;   ///< [M, K]
  int64_t codes_stride = 0;  ///< a multiple of 16
  float* scale = nullptr;    ///< [M]
};

/// Why the problem cannot run; empty when it can.
std::string activation_obstacle(const ActivationProblem& problem);

/// Enqueues the quantization on `stream`. Throws Error when the problem cannot run or the launch fails.
/// `overlap_previous` as LaunchOptions: the kernel may start while the one before it still runs, and waits
/// for it.
void quantize_activations(const ActivationProblem& problem, cudaStream_t stream,
                          bool overlap_previous = false);

}  // namespace tessera::cuda
