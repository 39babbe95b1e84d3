// What a lane of the float GEMM reads of a row of weights: 32 inputs of a chunk, in four pieces of eight.
#pragma once

#include <cuda_fp16.h>

#include "tessera/kernels/cuda/float_gemm.h"

namespace tessera::cuda {

constexpr int kChunk = 128;  ///< inputs that a warp takes at once, four lanes a row
constexpr int kPiece = 8, kPieces = kChunk / kPiece;

/// Lane t has pieces t, t + 4, t + 8 and t + 12.
struct HalfRow {
  uint4 pieces[4];

  /// Chunks that are under way, where a warp sums `columns` times 16 outputs.
  static constexpr int ahead(int) { return 1; }

  /// Where piece `i` of x stands, so that lane t finds its own at t, t + 4, t + 8 and t + 12.
  static __device__ __forceinline__ int position(int i) { return i; }

  __device__ __forceinline__ void load(const FloatGemmProblem& p, int64_t n, int64_t k, int t) {
    const auto* const row = static_cast<const __half*>(p.weights) + n * p.k;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t at = k + (4 * i + t) * kPiece;
      pieces[i] = n < p.n && at < p.k ? __ldg(reinterpret_cast<const uint4*>(row + at)) : uint4{};
    }
  }
  __device__ __forceinline__ uint4 piece(int i) const {
    return pieces[i];
  }
};

/// Lane t has 32 inputs side by side.
struct CodeRow {
  uint4 words;
  uint32_t group;

  static constexpr int ahead(int columns) { return columns <= 16 ? 4 : columns <= 64 ? 2 : 1; }

  static __device__ __forceinline__ int position(int i) { return i % 4 * 4 + i / 4; }

  __device__ __forceinline__ void load(const FloatGemmProblem& p, int64_t n, int64_t k, int t) {
    const int64_t at = k + 32 * t;
    const bool exists = n < p.n && at < p.k;
    const auto* const row = static_cast<const uint32_t*>(p.codes.words) + n * (p.k / 8);
    words = exists ? __ldg(reinterpret_cast<const uint4*>(row + at / 8)) : uint4{};
    const int64_t groups = p.k / p.codes.group_size;
    const int index = static_cast<int>(at) / static_cast<int>(p.codes.group_size);
    group = exists ? __ldg(static_cast<const uint32_t*>(p.codes.groups) + n * groups + index) : 0;
  }
  __device__ __forceinline__ uint4 piece(int i) const {
    const uint32_t word = i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
    return {pair(word), pair(word >> 4), pair(word >> 8), pair(word >> 12)};
  }

 private:
  /// The codes in bits 0 and 16. 0x6400 | code is the half 1024 + code.
  __device__ __forceinline__ uint32_t pair(uint32_t word) const {
    const uint32_t codes = (word & 0x000F000Fu) | 0x64006400u;
    const uint32_t scale = __byte_perm(group, 0, 0x1010), zero = __byte_perm(group, 0, 0x3232);
    const __half2 w = __hmul2_rn(__hsub2_rn(as_halves(codes), as_halves(zero)), as_halves(scale));
    return *reinterpret_cast<const uint32_t*>(&w);
  }
  static __device__ __forceinline__ __half2 as_halves(uint32_t bits) {
    return *reinterpret_cast<const __half2*>(&bits);
  }
};

}  // namespace tessera::cuda
