// Operands of mma out of a page: pieces on their way into registers, and codes as half.
#pragma once

#include <cuda_fp16.h>

#include "tessera/kernels/cuda/attention/page_layout.h"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {

constexpr int kPage = static_cast<int>(kPageTokens);
constexpr int kScoreTiles = kPage / 8, kScoreSteps = kPage / 16;  ///< of S, and of P V

/// x + distance in halves; the pair holds 1024 + x.
__device__ __forceinline__ uint32_t subtract_pair(uint32_t pair, uint32_t halves) {
  const __half2 y = __hsub2(reinterpret_cast<const __half2&>(pair), reinterpret_cast<const __half2&>(halves));
  return reinterpret_cast<const uint32_t&>(y);
}

/// Operands B of one unit.
struct Operands {
  uint32_t first, second;
};

constexpr uint32_t kThousand = 0x64646464, kThousandPair = 0x64006400;    ///< 1024 in half; its high bytes
constexpr uint32_t kByteCentre = 0x64806480, kNibbleCentre = 0x64086408;  ///< 1024 + 128, 1024 + 8

/// Bytes u as u - 128 (or u - 8).
__device__ __forceinline__ Operands expand_bytes(uint32_t word, uint32_t centre) {
  return {subtract_pair(__byte_perm(word, kThousand, 0x4140), centre),
          subtract_pair(__byte_perm(word, kThousand, 0x4342), centre)};
}

/// Of four bits, the values of two dimensions of four positions.
struct NibbleOperands {
  Operands low, high;
};
__device__ __forceinline__ NibbleOperands expand_value_nibbles(uint32_t word) {
  return {expand_bytes(word & 0x0F0F0F0F, kNibbleCentre),
          expand_bytes(word >> 4 & 0x0F0F0F0F, kNibbleCentre)};
}

/// A lane's piece of an operand in registers.
template <int kBits, int kUnits>
struct Piece {
  static constexpr int kBytes = kUnits * kBits / 2;
  uint32_t word[(kBytes + 3) / 4];

  __device__ __forceinline__ void load(const uint8_t* from) {
    if constexpr (kBytes == 16) {
      const uint4 v = *reinterpret_cast<const uint4*>(from);
      word[0] = v.x, word[1] = v.y, word[2] = v.z, word[3] = v.w;
    } else if constexpr (kBytes == 8) {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      word[0] = v.x, word[1] = v.y;
    } else if constexpr (kBytes == 4) {
      word[0] = *reinterpret_cast<const uint32_t*>(from);
    } else {
      word[0] = *reinterpret_cast<const uint16_t*>(from);
    }
  }

  /// Operands of unit i. Nibbles of a unit: elements 0 and 2 in the first byte, 1 and 3 in the second.
  __device__ __forceinline__ Operands unit(int i) const {
    if constexpr (kBits == 16) {
      return {word[2 * i], word[2 * i + 1]};
    } else if constexpr (kBits == 8) {
      return expand_bytes(word[i], kByteCentre);
    } else {
      const uint32_t bytes = __byte_perm(word[i / 2], 0, i % 2 == 0 ? 0x4140 : 0x4342);
      return {subtract_pair((bytes & 0x000F000F) | kThousandPair, kNibbleCentre),
              subtract_pair((bytes >> 4 & 0x000F000F) | kThousandPair, kNibbleCentre)};
    }
  }
};

/// Walks over an operand in shared memory, over as many neighbouring tiles at once as chains of products
/// should run side by side.
template <Fragments kOperand, int kTiles>
class TileStream {
 public:
  using PieceOf = Piece<kOperand.bits, kOperand.piece_units()>;
  static constexpr int kUnits = kOperand.piece_units();
  static constexpr int kSide = kTiles % 4 == 0 ? 4 : kTiles % 2 == 0 ? 2 : 1;

  __device__ __forceinline__ explicit TileStream(const uint8_t* from) : from_(from) {}

  /// Calls product(tile, step, piece, unit of the piece) for all, in ascending order of steps for each tile.
  template <class Product>
  __device__ __forceinline__ void each(Product product) const {
    walk<1>([&](int tile, int step, const PieceOf* pieces, int unit) { product(tile, step, *pieces, unit); });
  }
  /// Calls product(pair of tiles, step, pieces of both, unit).
  template <class Product>
  __device__ __forceinline__ void each_pair(Product product) const {
    walk<2>([&](int tile, int step, const PieceOf* pieces, int unit) {
      product(tile / 2, step, pieces[0], pieces[1], unit);
    });
  }

 private:
  static constexpr int kPieces = kOperand.pieces(), kCount = kTiles / kSide * kPieces;

  template <int kTogether, class Function>
  __device__ __forceinline__ void walk(Function function) const {
    static_assert(kSide % kTogether == 0);
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int first = i / kPieces * kSide;
      PieceOf pieces[kSide];
#pragma unroll
      for (int t = 0; t < kSide; ++t)
        pieces[t].load(from_ + kOperand.piece_offset(first + t, i % kPieces, lane));
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
#pragma unroll
        for (int t = 0; t < kSide; t += kTogether)
          function(first + t, i % kPieces * kUnits + u, pieces + t, u);
      }
    }
  }

  const uint8_t* from_;
};

}  // namespace tessera::cuda
