// Codes of tokens on their way into the ring of the kernels for compute capability 8.0. Bytes are copied past
// the registers. Codes of 4 bits (QUIK, W4A4), which come as bytes too, are packed in registers on the way:
// once a block, not by every warp that reads them, and ldmatrix moves half as much, which at twice the rate
// of products would otherwise bound the kernel.
//
// mma.m16n8k64 takes eight codes of a token or output a word; which inputs they are does not matter as long
// as both operands agree. Here, of 32 inputs, the nibbles of byte 4 t + i are inputs 4 t + i and 16 + 4 t +
// i: so two words of a lane's weights (packed_weights.h) make the words of rows g and g + 8 in four
// instructions.
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/sm80/tile.cuh"
#include "tessera/kernels/cuda/warp_product.cuh"

namespace tessera::cuda::sm80 {

constexpr uint32_t kLowNibbles = 0x0F0F0F0F;

/// The low nibbles of the bytes of `first` and, above them, those of `second`; and the high nibbles.
__device__ __forceinline__ uint32_t pack_low_nibbles(uint32_t first, uint32_t second) {
  return ptx::select_bits(first, second << 4, kLowNibbles);
}
__device__ __forceinline__ uint32_t pack_high_nibbles(uint32_t first, uint32_t second) {
  return ptx::select_bits(first >> 4, second, kLowNibbles);
}

/// 4-bit weights as operands of products with 4-bit codes; `step` is a half of the block.
struct PackedInt4Weights {
  static constexpr WeightLayout kLayout{4, 0};
  static constexpr int kStripBytes = strip_bytes(kLayout), kCodeBits = 4, kShift = 0;
  static __device__ __forceinline__ uint4 load(const uint8_t* strip, int step, int lane) {
    const uint4 w = *reinterpret_cast<const uint4*>(strip + fragment_offset(step, lane));
    return {pack_low_nibbles(w.x, w.y), pack_high_nibbles(w.x, w.y), pack_low_nibbles(w.z, w.w),
            pack_high_nibbles(w.z, w.w)};
  }
  static __device__ __forceinline__ void multiply(int (&d)[4], const uint4& a, uint32_t b0, uint32_t b1) {
    ptx::mma_s4(d, a, b0, b1);
  }
};

/// 8-bit codes: 128 bytes a token in the 128-byte swizzle.
template <class T>
struct CopiedCodes {
  /// Starts the copies of codes of blocks of inputs from `block` on; tokens and inputs that do not exist
  /// become 0.
  __device__ __forceinline__ void fetch(const GemmProblem& p, const Origin& at, int block, uint32_t to) {
    const RowPieces<T, kBlockInputs / 16> pieces;
#pragma unroll
    for (int i = 0; i < pieces.kCount; ++i) {
      const int token = pieces.token(i), input = (block + pieces.run(i)) * kBlockInputs + 16 * pieces.chunk;
      const bool live = token < at.tokens && input < static_cast<int>(p.weights.k);
      ptx::copy_async(to + pieces.row(i) * kBlockInputs + (pieces.chunk ^ token % 8) * 16,
                      pieces.source(p.codes, at.token, p.codes_stride, i) + input, live);
    }
  }
  __device__ __forceinline__ void deliver(uint8_t* /*to*/) const {}
};

/// 4-bit codes: 64 bytes a token in the 64-byte swizzle, 32 inputs in 16 bytes.
template <class T>
struct PackedCodes {
  using Pieces = RowPieces<T, kBlockInputs / 32>;
  uint4 words[Pieces::kCount][2];

  /// Loads what CopiedCodes copies.
  __device__ __forceinline__ void fetch(const GemmProblem& p, const Origin& at, int block, uint32_t /*to*/) {
    const Pieces pieces;
#pragma unroll
    for (int i = 0; i < Pieces::kCount; ++i) {
      const int input = (block + pieces.run(i)) * kBlockInputs + 32 * pieces.chunk;
      const int8_t* codes = pieces.source(p.codes, at.token, p.codes_stride, i) + input;
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const bool live = pieces.token(i) < at.tokens && input + 16 * part < static_cast<int>(p.weights.k);
        words[i][part] = live ? __ldg(reinterpret_cast<const uint4*>(codes + 16 * part)) : uint4{};
      }
    }
  }
  /// Packs them into the stage at `to`.
  __device__ __forceinline__ void deliver(uint8_t* to) const {
    const Pieces pieces;
#pragma unroll
    for (int i = 0; i < Pieces::kCount; ++i) {
      const auto& [low, high] = words[i];
      *reinterpret_cast<uint4*>(to + narrow_offset(pieces.row(i), pieces.chunk)) = {
          pack_low_nibbles(low.x, high.x), pack_low_nibbles(low.y, high.y), pack_low_nibbles(low.z, high.z),
          pack_low_nibbles(low.w, high.w)};
    }
  }
};

}  // namespace tessera::cuda::sm80
