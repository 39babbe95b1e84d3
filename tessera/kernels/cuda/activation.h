// Activations to int8 codes on NVIDIA GPUs, fused with what comes before a linear layer: nothing, RMSNorm or
// LayerNorm of the residual stream with what was added to it, or an activation, and with the layer's input
// map. One pass over memory; results feed gemm.h. For float layers the same rows as half.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/gemm.h"
#include "tessera/kernels/types.h"

namespace tessera::cuda {

enum class ActivationSource : uint8_t {
  kPlain,        ///< x
  kRmsNorm,      ///< x / sqrt(mean(x^2) + epsilon) * weight
  kLayerNorm,    ///< (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias
  kSiluProduct,  ///< x / (1 + exp(-x)) * up
  kActivated,    ///< function(x) * up, or function(x) where up is null
  kAttention,    ///< the spans of a row added up and rounded to half; x where it has none
};

/// What is added to x before a norm: x in float, rows of half.
struct AddedRows {
  const void* delta = nullptr;  ///< half [M, inputs]; null: nothing
  int64_t stride = 0;           ///< elements from row to row, a multiple of 8
  float* sum = nullptr;         ///< null, or where x + delta goes, rows like x; may be x itself
};

/// The columns that are quantized, x'[c] = sum over i in [offset[c], offset[c + 1]) of gain[i] * y[index[i]],
/// added in this order in float (QLLM, reassembly; QUIK, the inputs that are no outliers).
struct ChannelMap {
  const int32_t* index = nullptr;   ///< [nnz]; null: the identity
  const float* gain = nullptr;      ///< [nnz]; null: 1
  const int32_t* offset = nullptr;  ///< [K + 1]; null: one source a column, nnz = K
  const uint8_t* repeat = nullptr;  ///< [K] or null: codes become repeat * (code - zero), their zero point 0
};

/// Columns of y that bypass quantization (QUIK), for Outliers of gemm.h.
struct OutlierGather {
  int64_t count = 0;               ///< 0: none
  const int32_t* index = nullptr;  ///< [count]
  void* values = nullptr;          ///< half [M, stride]; columns from `count` on become 0
  int64_t stride = 0;              ///< a multiple of 8, at least `count`
};

/// Rows y[m, :] of the source, in float, become K columns x' by the map and then codes of `bits` bits with a
/// scale a token. All pointers are device memory, 16-byte aligned.
///   symmetric   a = max |x'|, scale = a / qmax, codes = rint(x' * (qmax / a)), qmax = 2^(bits-1) - 1; rows
///               with a < 2^-100 become 0 (QQQ, activations)
///   static      codes = clamp(rint(x' / static_scale), -qmax, qmax), scale = static_scale (DGQ)
///   asymmetric  lo and hi the extremes of x' and 0, L = 2^bits - 1, scale = (hi - lo) / L, z = rint(-lo /
///               scale), codes = clamp(rint(x' / scale) + z, 0, L) - 2^(bits-1), zero = z - 2^(bits-1)
///               (QUIK, variant Z); rows with hi - lo < 2^-100 count as 0 .. 1
/// Rows that are not finite get a NaN scale and codes 0; as half they stay what they are.
struct ActivationProblem {
  ActivationSource source = ActivationSource::kPlain;
  int64_t m = 0, k = 0;      ///< tokens, columns of codes: a multiple of 16, at most 32768
  int64_t inputs = 0;        ///< of a row of x: a multiple of 8, at most 32768; 0: k
  const void* x = nullptr;   ///< [M, inputs]
  const void* up = nullptr;  ///< like x, for kSiluProduct and kActivated
  GluActivation function = GluActivation::kSilu;  ///< of kActivated
  SpanResults spans;                              ///< of kAttention
  AddedRows added;                                ///< to float x, for the norms
  const int32_t* rows = nullptr;  ///< [M] or null: row m is made of row rows[m] of float x, for the norms
  OutputType type = OutputType::kHalf;        ///< of x and up: kFloat, kHalf or kBFloat16
  int64_t stride = 0;                         ///< of x and up, elements from row to row, a multiple of 8
  const void* weight = nullptr;               ///< [inputs], for the norms
  const void* bias = nullptr;                 ///< [inputs] or null, for kLayerNorm
  OutputType norm_type = OutputType::kFloat;  ///< of weight and bias: kFloat or that of x
  float epsilon = 1e-5f;
  ChannelMap map;
  OutlierGather outliers;
  int bits = 8;  ///< 2 .. 8
  bool symmetric = true;
  float static_scale = 0;     ///< > 0: of all tokens, symmetric
  void* halves = nullptr;     ///< half [M, K]: y itself instead of codes; no map
  int64_t halves_stride = 0;  ///< a multiple of 8
  int8_t* codes = nullptr;    ///< [M, K]
  int64_t codes_stride = 0;   ///< a multiple of 16
  float* scale = nullptr;     ///< [M]
  int32_t* zero = nullptr;    ///< [M], for asymmetric codes

  constexpr int64_t width() const { return inputs > 0 ? inputs : k; }
};

/// Why the problem cannot run; empty when it can.
std::string activation_obstacle(const ActivationProblem& problem);

/// Enqueues the quantization on `stream`. Throws Error when the problem cannot run or the launch fails.
/// `overlap_previous` as LaunchOptions: the kernel may start while the one before it still runs, and waits
/// for it.
void quantize_activations(const ActivationProblem& problem, cudaStream_t stream,
                          bool overlap_previous = false);

}  // namespace tessera::cuda
