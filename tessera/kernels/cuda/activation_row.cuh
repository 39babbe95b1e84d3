// A row of activations in the registers of a block of threads: loading, sums and extremes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <type_traits>

#include "tessera/kernels/cuda/scaling.cuh"

namespace tessera::cuda {

constexpr int kRun = 8;              ///< a thread holds runs of eight inputs
constexpr int kWarpRun = 32 * kRun;  ///< neighbouring threads hold neighbouring runs

/// max(a, b); NaN when either is: a NaN must reach the scale.
__device__ __forceinline__ float greater(float a, float b) {
  float c;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}

/// Sum of what a thread's runs have added up, each as a chain of its own: the latency of one chain over all
/// inputs would show.
template <int kRuns>
__device__ __forceinline__ float total(const float (&sums)[kRuns]) {
  float all = sums[0];
#pragma unroll
  for (int i = 1; i < kRuns; ++i) all += sums[i];
  return all;
}

/// A thread's part of a row as it lies in memory: run i of lane l of warp w holds inputs
/// 256 (w kRuns + i) + 8 l .. + 7. Offsets between runs do not depend on the number of threads: they are
/// constants in the instructions. Inputs beyond the row's width are 0; with kWhole the width is that of all
/// the block's runs.
template <class V, int kRuns>
struct Row {
  static constexpr int kWords = kRun * static_cast<int>(sizeof(V)) / 4;
  uint32_t word[kRuns][kWords] = {};

  /// Index of the first input of run i.
  static __device__ __forceinline__ int first(int i = 0) {
    return (static_cast<int>(threadIdx.x / 32) * kRuns + i) * kWarpRun +
           static_cast<int>(threadIdx.x % 32) * kRun;
  }
  static __device__ __forceinline__ bool exists(int i, int width) { return first(i) < width; }

  template <bool kWhole>
  __device__ __forceinline__ void load(const V* row, int width) {
    const V* const from = row + first();
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      if (!kWhole && !exists(i, width)) continue;
#pragma unroll
      for (int j = 0; j < kWords; j += 4) {
        const uint4 piece = reinterpret_cast<const uint4*>(from + i * kWarpRun)[j / 4];
        word[i][j] = piece.x, word[i][j + 1] = piece.y, word[i][j + 2] = piece.z, word[i][j + 3] = piece.w;
      }
    }
  }
  /// Into shared memory. Eight lanes store 16 bytes each at once: of runs of 32 bytes four lanes store the
  /// second half first, as all first halves would meet in half of the banks.
  __device__ __forceinline__ void store(V* row, int width) const {
    V* const to = row + first();
    const bool swap = kWords == 8 && threadIdx.x / 4 % 2 == 1;
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      if (!exists(i, width)) continue;
#pragma unroll
      for (int j = 0; j < kWords; j += 4) {
        const int k = j ^ (kWords - 4);
        uint4 piece = {word[i][j], word[i][j + 1], word[i][j + 2], word[i][j + 3]};
        if (swap) piece = {word[i][k], word[i][k + 1], word[i][k + 2], word[i][k + 3]};
        reinterpret_cast<uint4*>(to + i * kWarpRun)[j / 4 ^ static_cast<int>(swap)] = piece;
      }
    }
  }
  __device__ __forceinline__ void get(int i, float (&to)[kRun]) const {
#pragma unroll
    for (int j = 0; j < kWords; ++j) unpack(word[i][j], to + j * (kRun / kWords));
  }
  __device__ __forceinline__ void set(int i, const float (&from)[kRun]) {
    static_assert(std::is_same_v<V, float>);
#pragma unroll
    for (int j = 0; j < kRun; ++j) word[i][j] = __float_as_uint(from[j]);
  }
  __device__ __forceinline__ Row<float, kRuns> floats(float factor = 1) const {
    Row<float, kRuns> all;
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      float values[kRun];
      get(i, values);
#pragma unroll
      for (int j = 0; j < kRun; ++j) values[j] *= factor;
      all.set(i, values);
    }
    return all;
  }

  /// Sum of function(x).
  template <bool kWhole, class Function>
  __device__ __forceinline__ float sum(int width, Function function) const {
    float sums[kRuns] = {};
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      float values[kRun];
      get(i, values);
#pragma unroll
      for (int j = 0; j < kRun; ++j) sums[i] += kWhole || exists(i, width) ? function(values[j]) : 0;
    }
    return total(sums);
  }
  /// max |x|, of 16-bit numbers two at a time.
  __device__ __forceinline__ float most() const {
    float all = 0;
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      Pair pair{};
#pragma unroll
      for (int j = 0; j < kWords; ++j) pair = larger(pair, reinterpret_cast<const Pair&>(word[i][j]));
      float ends[2] = {};
      unpack(reinterpret_cast<const uint32_t&>(pair), ends);
      all = greater(all, greater(ends[0], ends[1]));
    }
    return all;
  }
  /// max(-x, 0) and max(x, 0)
  __device__ __forceinline__ float2 extremes() const {
    float2 all{};
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      float values[kRun], low = 0, high = 0;
      get(i, values);
#pragma unroll
      for (int j = 0; j < kRun; ++j) low = greater(low, -values[j]), high = greater(high, values[j]);
      all = {greater(all.x, low), greater(all.y, high)};
    }
    return all;
  }

 private:
  using Pair = std::conditional_t<sizeof(V) == 4, float,
                                  std::conditional_t<std::is_same_v<V, __half>, __half2, __nv_bfloat162>>;

  static __device__ __forceinline__ Pair larger(Pair a, Pair b) {
    if constexpr (sizeof(V) == 4) {
      return greater(a, fabsf(b));
    } else {
      return __hmax2_nan(a, __habs2(b));
    }
  }
  static __device__ __forceinline__ void unpack(uint32_t word, float* to) {
    if constexpr (sizeof(V) == 4) {
      to[0] = __uint_as_float(word);
    } else {
      const auto& pair = reinterpret_cast<const Pair&>(word);
      to[0] = __low2float(pair);
      to[1] = __high2float(pair);
    }
  }
};

/// Reductions over a block of at most kMaxWarps warps, the same result in every thread. Two buffers take
/// turns, so that one barrier each suffices.
template <int kMaxWarps>
class Reducer {
 public:
  using Scratch = float2[2][kMaxWarps];

  __device__ __forceinline__ explicit Reducer(Scratch& scratch) : scratch_(scratch) {}

  __device__ __forceinline__ float sum(float value) {
    return butterfly<kLanes>(exchange(butterfly<32>(value)));
  }
  __device__ __forceinline__ float2 sum(float2 value) {
    value = exchange(float2{butterfly<32>(value.x), butterfly<32>(value.y)});
    return {butterfly<kLanes>(value.x), butterfly<kLanes>(value.y)};
  }
  /// Of numbers >= 0 or NaN, which as integers are in the same order.
  __device__ __forceinline__ float max(float value) { return warp_max(exchange(warp_max(value))); }
  __device__ __forceinline__ float2 max(float2 value) {
    value = exchange(float2{warp_max(value.x), warp_max(value.y)});
    return {warp_max(value.x), warp_max(value.y)};
  }

 private:
  static constexpr int kLanes = std::bit_ceil(static_cast<unsigned>(kMaxWarps));

  /// Each lane gets the value of a warp, or 0 where there are no more.
  template <class V>
  __device__ __forceinline__ V exchange(V value) {
    V* const buffer = reinterpret_cast<V*>(scratch_[turn_]);
    turn_ ^= 1;
    if (threadIdx.x % 32 == 0) buffer[threadIdx.x / 32] = value;
    __syncthreads();
    const int warp = static_cast<int>(threadIdx.x) % kLanes;
    return warp < static_cast<int>(blockDim.x / 32) ? buffer[warp] : V{};
  }
  template <int kCount>
  static __device__ __forceinline__ float butterfly(float value) {
#pragma unroll
    for (int distance = kCount / 2; distance > 0; distance /= 2) {
      value += __shfl_xor_sync(~0u, value, distance);
    }
    return value;
  }
  static __device__ __forceinline__ float warp_max(float value) {
    return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(value)));
  }

  Scratch& scratch_;
  int turn_ = 0;
};

}  // namespace tessera::cuda
