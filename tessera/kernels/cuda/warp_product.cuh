// What a warp does with mma.sync: products of a block of inputs, and its sums in shared memory.
#pragma once

#include "tessera/kernels/cuda/expand.cuh"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {

/// Sums of a warp: acc[j][i] is the fragment of strip j (16 outputs) and token group i (8 tokens).
template <int kStrips, int kGroups, class V = int>
using WarpSums = V[kStrips][kGroups][4];

/// What a warp adds up over inputs and outliers; the compiler drops the second where there are none.
template <int kStrips, int kGroups>
struct WarpAccumulators {
  WarpSums<kStrips, kGroups> integer = {};
  WarpSums<kStrips, kGroups, float> bypass = {};
};

/// Adds the products of one block of inputs: `strips` are its weights in shared memory, `codes` the address
/// of its codes, 128 bytes a token in the 128-byte swizzle.
template <class Weights, int kStrips, int kGroups>
__device__ __forceinline__ void multiply_block(const uint8_t* strips, uint32_t codes, int lane,
                                               WarpSums<kStrips, kGroups>& acc) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t b[kGroups][4];
    const uint32_t chunk = ((4 * half + lane / 8) ^ lane % 8) * 16;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      ptx::load_matrices(b[i], codes + (8 * i + lane % 8) * kBlockInputs + chunk);
    }
#pragma unroll
    for (int j = 0; j < kStrips; ++j) {
      const auto raw = Weights::load(strips + j * strip_bytes(Weights::kLayout), half, lane);
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        uint32_t a[4];
        Weights::expand(raw, step, 0, a);
#pragma unroll
        for (int i = 0; i < kGroups; ++i) {
          ptx::mma(acc[j][i], a, b[i][2 * step], b[i][2 * step + 1]);
        }
      }
    }
  }
}

/// Offset of 16 bytes of a token's row of 64 bytes: chunks are swizzled so that ldmatrix meets no bank
/// conflict (the 64-byte swizzle of tensor copies).
__device__ __forceinline__ int narrow_offset(int token, int chunk) {
  return token * 64 + (chunk ^ token / 2 % 4) * 16;
}

/// Weights of outliers, operands as they lie in memory.
struct OutlierWeights {
  static constexpr int kStripBytes = kOutlierStripBytes;
  static __device__ __forceinline__ uint4 load(const uint8_t* strip, int step, int lane) {
    return *reinterpret_cast<const uint4*>(strip + fragment_offset(step, lane));
  }
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint4& a, uint32_t b0, uint32_t b1) {
    ptx::mma(d, a, b0, b1);
  }
};

/// Adds the products of a block whose tokens have rows of 64 bytes, two steps of mma: 32 outliers or 128
/// codes of 4 bits. `strips` are its weights, `rows` the address of the tokens' rows.
template <class Weights, int kStrips, int kGroups, class V>
__device__ __forceinline__ void multiply_narrow_block(const uint8_t* strips, uint32_t rows, int lane,
                                                      WarpSums<kStrips, kGroups, V>& acc) {
  uint32_t b[kGroups][4];
#pragma unroll
  for (int i = 0; i < kGroups; ++i)
    ptx::load_matrices(b[i], rows + narrow_offset(8 * i + lane % 8, lane / 8));
#pragma unroll
  for (int j = 0; j < kStrips; ++j) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const uint4 a = Weights::load(strips + j * Weights::kStripBytes, step, lane);
#pragma unroll
      for (int i = 0; i < kGroups; ++i) Weights::multiply(acc[j][i], a, b[i][2 * step], b[i][2 * step + 1]);
    }
  }
}

/// Word of (token, row) in the sums of a tile of kOutputs outputs: rows are swizzled so that the fragments'
/// stores meet few bank conflicts and aligned runs of four outputs stay together.
template <int kOutputs>
__device__ __forceinline__ int sum_index(int token, int row) {
  return token * kOutputs + (row ^ (token % 8 / 2 * 8 % kOutputs));
}

/// Stores a warp's sums, whose first element is (first_token, first_row) of a tile of kOutputs outputs.
template <int kOutputs, int kStrips, int kGroups, class V>
__device__ __forceinline__ void store_sums(V* sums, int first_token, int first_row, int lane,
                                           const WarpSums<kStrips, kGroups, V>& acc) {
  const int row = first_row + lane / 4, token = first_token + 2 * (lane % 4);
#pragma unroll
  for (int j = 0; j < kStrips; ++j) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
#pragma unroll
      for (int d = 0; d < 4; ++d) {
        sums[sum_index<kOutputs>(8 * i + token + d % 2, 16 * j + row + d / 2 * 8)] = acc[j][i][d];
      }
    }
  }
}

template <class Four>
__device__ __forceinline__ void add(Four& sum, const Four& term) {
  sum.x += term.x;
  sum.y += term.y;
  sum.z += term.z;
  sum.w += term.w;
}

}  // namespace tessera::cuda
