// A row of activations in the registers of a block of threads: loading, reductions, sources.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <type_traits>

#include "tessera/kernels/cuda/activation.h"
#include "tessera/kernels/cuda/scaling.cuh"

namespace tessera::cuda {

constexpr int kRun = 8;  ///< a thread holds runs of eight inputs

/// Eight values, by loads of 16 bytes.
template <class V, class To>
__device__ __forceinline__ void load_run(const V* from, To (&to)[kRun]) {
  struct alignas(16) Piece {
    V value[16 / sizeof(V)];
  };
  constexpr int kPiece = 16 / sizeof(V);
#pragma unroll
  for (int i = 0; i < kRun / kPiece; ++i) {
    const Piece piece = reinterpret_cast<const Piece*>(from)[i];
#pragma unroll
    for (int j = 0; j < kPiece; ++j) {
      if constexpr (std::is_same_v<V, To>) {
        to[i * kPiece + j] = piece.value[j];
      } else {
        to[i * kPiece + j] = to_float(piece.value[j]);
      }
    }
  }
}

/// What values are combined by. Extremes are NaN when any value is: a NaN must reach the scale.
struct Sum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const {
    float c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
  }
};
struct Min {
  __device__ __forceinline__ float operator()(float a, float b) const { return -Max{}(-a, -b); }
};

/// Reductions over a block of kWarps warps, the same result in every thread. Two buffers take turns, so that
/// one barrier each suffices.
template <int kWarps>
class Reducer {
 public:
  using Scratch = float[2][kWarps];

  __device__ __forceinline__ explicit Reducer(Scratch& scratch) : scratch_(scratch) {}

  template <class Combine>
  __device__ __forceinline__ float operator()(float value, Combine combine) {
    value = within_warp<32>(value, combine);
    if (threadIdx.x % 32 == 0) scratch_[turn_][threadIdx.x / 32] = value;
    __syncthreads();
    value = within_warp<kWarps>(scratch_[turn_][threadIdx.x % kWarps], combine);
    turn_ ^= 1;
    return value;
  }

 private:
  template <int kLanes, class Combine>
  static __device__ __forceinline__ float within_warp(float value, Combine combine) {
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      value = combine(value, __shfl_xor_sync(~0u, value, distance));
    }
    return value;
  }

  Scratch& scratch_;
  int turn_ = 0;
};

/// A thread's part of a row: run i holds inputs 8 (i kThreads + thread) .. + 7. Inputs beyond the row's width
/// are 0.
template <int kThreads, int kRuns>
struct Row {
  float y[kRuns][kRun] = {};

  /// Calls function(run of eight values, index of the first).
  template <class Function>
  __device__ __forceinline__ void for_runs(int64_t width, Function function) {
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      const int at = kRun * (i * kThreads + static_cast<int>(threadIdx.x));
      if (at < width) function(y[i], at);
    }
  }
  template <class Function>
  __device__ __forceinline__ void for_values(Function function) {
#pragma unroll
    for (int i = 0; i < kRuns * kRun; ++i) function(y[i / kRun][i % kRun]);
  }
};

/// y = x / (1 + exp(-x)) * up
template <class In, class AnyRow>
__device__ __forceinline__ void multiply_silu(const ActivationProblem& p, int64_t offset, AnyRow& row) {
  row.for_runs(p.width(), [&](float(&y)[kRun], int at) {
    float up[kRun];
    load_run(static_cast<const In*>(p.up) + offset + at, up);
#pragma unroll
    for (int i = 0; i < kRun; ++i) y[i] = __fdividef(y[i], 1 + __expf(-y[i])) * up[i];
  });
}

/// A run of a norm's weights or biases.
template <class In>
__device__ __forceinline__ void load_constants(const ActivationProblem& p, const void* from, int at,
                                               float (&to)[kRun]) {
  if (p.norm_type == OutputType::kFloat) {
    load_run(static_cast<const float*>(from) + at, to);
  } else {
    load_run(static_cast<const In*>(from) + at, to);
  }
}

/// y = (x - mean) * weight * factor + bias. Returns a factor that y still lacks, 1 when there is a bias:
/// symmetric codes do not depend on it. Weights are multiplied first, so that they are loaded while the row
/// is.
template <class In, bool kCentred, class AnyReducer, class AnyRow>
__device__ __forceinline__ float normalize(const ActivationProblem& p, AnyReducer& reduce, AnyRow& row) {
  const auto width = static_cast<float>(p.width());
  float mean = 0, squares = 0;
  if constexpr (kCentred) {
    row.for_values([&](float y) { mean += y; });
    mean = __fdividef(reduce(mean, Sum{}), width);
  }
  row.for_runs(p.width(), [&](float(&y)[kRun], int at) {
    float weight[kRun];
    load_constants<In>(p, p.weight, at, weight);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const float centred = kCentred ? y[i] - mean : y[i];
      squares += centred * centred;
      y[i] = centred * weight[i];
    }
  });
  const float factor = rsqrtf(__fdividef(reduce(squares, Sum{}), width) + p.epsilon);
  if (!kCentred || !p.bias) return factor;
  row.for_runs(p.width(), [&](float(&y)[kRun], int at) {
    float bias[kRun];
    load_constants<In>(p, p.bias, at, bias);
#pragma unroll
    for (int i = 0; i < kRun; ++i) y[i] = y[i] * factor + bias[i];
  });
  return 1;
}

/// Loads row `token` and applies the source, but for the factor that it returns.
template <class In, class AnyReducer, class AnyRow>
__device__ __forceinline__ float load_row(const ActivationProblem& p, int64_t token, AnyReducer& reduce,
                                          AnyRow& row) {
  row.for_runs(p.width(), [&](float(&y)[kRun], int at) {
    load_run(static_cast<const In*>(p.x) + token * p.stride + at, y);
  });
  if (p.source == ActivationSource::kRmsNorm) return normalize<In, false>(p, reduce, row);
  if (p.source == ActivationSource::kLayerNorm) return normalize<In, true>(p, reduce, row);
  if (p.source == ActivationSource::kSiluProduct) multiply_silu<In>(p, token * p.stride, row);
  return 1;
}

}  // namespace tessera::cuda
