// Attention of up to 16 rows of a warp to one page: the arithmetic that every kernel shares, instruction for
// instruction, so that a row's result does not depend on which kernel computed it.
//
//   scores    S = q K^T, float sums of half products over the head's dimensions
//   weights   p = 2^(s - max s), in half for the second product
//   out       O = P V, with nothing added to it from other pages; see fold()
//
// Codes of a quantized cache enter products as u - centre, exact in half; zero points come behind the sums:
//   s = scale_k (q (u - centre) - (zero - centre) sum q),   O = most (P' (u - centre) - sum P' (zero -
//   centre))
// with P' = p scale_v / most and `most` the largest value scale that the row sees in the page, so that P'
// uses half's range.
#pragma once

#include <cuda_fp16.h>

#include "tessera/kernels/cuda/attention/fold.cuh"
#include "tessera/kernels/cuda/attention/page_layout.h"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {

constexpr int kPage = static_cast<int>(kPageTokens);
constexpr int kScoreTiles = kPage / 8, kScoreSteps = kPage / 16;

constexpr float kLog2E = 1.4426950408889634f;

/// log2(e) / sqrt(head_dim)
template <int kDim>
__device__ __forceinline__ float softmax_scale() {
  return kLog2E * rsqrtf(static_cast<float>(kDim));
}

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

/// An operand on its way into registers: pieces of as many neighbouring tiles at once as chains of products
/// should run side by side, the next kAhead such groups fetched before they are needed.
template <Fragments kOperand, int kTiles, int kAhead>
class TileStream {
 public:
  using PieceOf = Piece<kOperand.bits, kOperand.piece_units()>;
  static constexpr int kUnits = kOperand.piece_units();
  static constexpr int kSide = kTiles % 4 == 0 ? 4 : kTiles % 2 == 0 ? 2 : 1;

  __device__ __forceinline__ explicit TileStream(const uint8_t* from) : from_(from) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load(i);
  }
  /// Calls product(tile, step, piece, unit of the piece) for all, in ascending order of steps for each tile.
  template <class Product>
  __device__ __forceinline__ void each(Product product) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      load(i + kAhead);
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
#pragma unroll
        for (int t = 0; t < kSide; ++t) {
          product(i / kPieces * kSide + t, i % kPieces * kUnits + u, ring_[i % kRing][t], u);
        }
      }
    }
  }

 private:
  static constexpr int kPieces = kOperand.pieces(), kCount = kTiles / kSide * kPieces, kRing = kAhead + 1;

  __device__ __forceinline__ void load(int i) {
    if (i >= kCount) return;
#pragma unroll
    for (int t = 0; t < kSide; ++t) {
      const int tile = i / kPieces * kSide + t;
      ring_[i % kRing][t].load(from_ +
                               kOperand.piece_offset(tile, i % kPieces, static_cast<int>(threadIdx.x % 32)));
    }
  }

  const uint8_t* from_;
  PieceOf ring_[kRing][kSide];
};

/// Sum and maximum over the four lanes that share a row.
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

/// Queries of a warp's 16 rows as operand A; lane 4 g + t holds rows g and g + 8.
template <int kDim>
struct Queries {
  static constexpr int kSteps = kDim / 16;
  uint4 step[kSteps];
  float sum[2] = {};  ///< over the dimensions

  /// Null rows are zeros.
  __device__ __forceinline__ void load(const __half* low, const __half* high) {
    const int first = static_cast<int>(threadIdx.x % 4) * (kDim / 4);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      uint2 a{}, b{};
      if (low) a = *reinterpret_cast<const uint2*>(low + first + 4 * s);
      if (high) b = *reinterpret_cast<const uint2*>(high + first + 4 * s);
      step[s] = {a.x, b.x, a.y, b.y};
      sum[0] += pair_sum(a.x) + pair_sum(a.y);
      sum[1] += pair_sum(b.x) + pair_sum(b.y);
    }
    sum[0] = quad_sum(sum[0]);
    sum[1] = quad_sum(sum[1]);
  }

 private:
  static __device__ __forceinline__ float pair_sum(uint32_t word) {
    const float2 v = __half22float2(reinterpret_cast<const __half2&>(word));
    return v.x + v.y;
  }
};

/// What a lane's two rows see of a page, and how scores are scaled.
struct PageView {
  int begin[2], end[2];  ///< positions in the page
  float scale;           ///< log2(e) / sqrt(head_dim)
  float slope[2];        ///< ALiBi, times log2(e); 0: none
  float distance[2];     ///< from the query to position 0 of the page
};

/// Row maxima, row sums of weights and the product with the values, of one page or several. Row i of the
/// lane's two has out[tile][2 i] and [2 i + 1], dimensions 8 tile + 2 t and + 1.
template <int kDim>
struct Attended {
  static constexpr int kTiles = kDim / 8;
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  float out[kTiles][4] = {};
};

/// to += from. A result that saw nothing changes nothing, to the last bit.
template <int kDim>
__device__ __forceinline__ void fold(Attended<kDim>& to, const Attended<kDim>& from) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const FoldFactors factors(to.most[i], from.most[i]);
    to.most[i] = factors.most;
    to.sum[i] = factors.add(to.sum[i], from.sum[i]);
#pragma unroll
    for (int a = 0; a < Attended<kDim>::kTiles; ++a) {
      to.out[a][2 * i] = factors.add(to.out[a][2 * i], from.out[a][2 * i]);
      to.out[a][2 * i + 1] = factors.add(to.out[a][2 * i + 1], from.out[a][2 * i + 1]);
    }
  }
}

/// The block of one head of one page, in global or shared memory. kAhead: groups of pieces that are fetched
/// ahead of their products; none where memory is near. kLaneRows: 1 where the upper eight rows are idle.
template <KvFormat kFormat, int kDim, int kAhead, int kLaneRows = 2>
class Page {
 public:
  static constexpr PageLayout kLayout{kFormat, kDim};

  __device__ __forceinline__ explicit Page(const uint8_t* block) : block_(block) {}

  __device__ __forceinline__ void attend(const Queries<kDim>& q, const PageView& view,
                                         Attended<kDim>& result) const {
    float s[kScoreTiles][4];
    scores(q, view, s);
    ValueStream values(block_ + kLayout.values_begin());
    mask(view, s);
    weigh(s, result);
    uint4 p[kScoreSteps];
    float most[2], shift[2] = {};
    if constexpr (is_quantized(kFormat)) {
      scale_weights(s, p, most, shift);
    } else {
#pragma unroll
      for (int i = 0; i < kScoreSteps; ++i) p[i] = pack(s[2 * i], s[2 * i + 1]);
    }
    multiply(values, p, result);
    if constexpr (is_quantized(kFormat)) {
#pragma unroll
      for (auto& tile : result.out) {
#pragma unroll
        for (int c = 0; c < 2 * kLaneRows; ++c)
          tile[c] = __fmul_rn(__fsub_rn(tile[c], shift[c / 2]), most[c / 2]);
      }
    }
  }

 private:
  static constexpr int kCentre = kFormat == KvFormat::kInt8 ? 128 : 8;
  static constexpr Fragments kKeys = kLayout.keys(), kValues = kLayout.values();
  static constexpr int kValueTiles = kLayout.value_rows() / 8;
  using KeyStream = TileStream<kKeys, kScoreTiles, kAhead>;
  using ValueStream = TileStream<kValues, kValueTiles, kAhead>;

  static __device__ __forceinline__ int lane() {
    return static_cast<int>(threadIdx.x % 32);
  }
  /// Position of the lane's first score in a tile.
  static __device__ __forceinline__ int position(int tile) {
    return score_position(tile, 2 * (lane() % 4));
  }

  __device__ __forceinline__ void scores(const Queries<kDim>& q, const PageView& view,
                                         float (&s)[kScoreTiles][4]) const {
#pragma unroll
    for (auto& tile : s) {
#pragma unroll
      for (float& v : tile) v = 0;
    }
    KeyStream(block_).each([&](int tile, int step, const auto& piece, int unit) {
      const auto [first, second] = piece.unit(unit);
      ptx::mma(s[tile], q.step[step], first, second);
    });
#pragma unroll
    for (int j = 0; j < kScoreTiles; ++j) {
      float2 scale{1, 1}, zero{};
      if constexpr (is_quantized(kFormat)) {
        const auto* scales = reinterpret_cast<const float*>(block_ + kLayout.key_scales());
        scale = *reinterpret_cast<const float2*>(scales + position(j));
        zero = *reinterpret_cast<const float2*>(scales + kPage + position(j));
      }
#pragma unroll
      for (int c = 0; c < 2 * kLaneRows; ++c) {
        const int row = c / 2;
        if constexpr (is_quantized(kFormat)) {
          const float centred = (c % 2 == 0 ? zero.x : zero.y) - kCentre;
          s[j][c] = __fmul_rn(__fmaf_rn(-centred, q.sum[row], s[j][c]), c % 2 == 0 ? scale.x : scale.y);
        }
        const float bias = view.slope[row] * (view.distance[row] + static_cast<float>(position(j) + c % 2));
        s[j][c] = __fmaf_rn(s[j][c], view.scale, bias);
      }
    }
  }

  static __device__ __forceinline__ void mask(const PageView& view, float (&s)[kScoreTiles][4]) {
    const bool whole =
        view.begin[0] <= 0 && view.begin[1] <= 0 && view.end[0] >= kPage && view.end[1] >= kPage;
    if (__all_sync(~0u, whole)) return;
#pragma unroll
    for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
      for (int c = 0; c < 2 * kLaneRows; ++c) {
        const int at = position(j) + c % 2;
        if (at < view.begin[c / 2] || at >= view.end[c / 2]) s[j][c] = -INFINITY;
      }
    }
  }

  /// Scores become weights.
  static __device__ __forceinline__ void weigh(float (&s)[kScoreTiles][4], Attended<kDim>& result) {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      float most = -INFINITY;
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) most = fmaxf(most, fmaxf(s[j][2 * i], s[j][2 * i + 1]));
      most = quad_max(most);
      const float base = most == -INFINITY ? 0 : most;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
        for (int c = 2 * i; c < 2 * i + 2; ++c) {
          s[j][c] = exp2_approximate(__fsub_rn(s[j][c], base));
          sum = __fadd_rn(sum, s[j][c]);
        }
      }
      result.most[i] = most;
      result.sum[i] = quad_sum(sum);
    }
  }

  static __device__ __forceinline__ uint32_t pack(float a, float b) {
    const __half2 pair = __floats2half2_rn(a, b);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  /// Operand A of a step out of two tiles of weights.
  static __device__ __forceinline__ uint4 pack(const float (&a)[4], const float (&b)[4]) {
    if constexpr (kLaneRows == 1) return {pack(a[0], a[1]), 0, pack(b[0], b[1]), 0};
    return {pack(a[0], a[1]), pack(a[2], a[3]), pack(b[0], b[1]), pack(b[2], b[3])};
  }
  static __device__ __forceinline__ float2 unpack(uint32_t pair) {
    return __half22float2(reinterpret_cast<const __half2&>(pair));
  }

  /// Weights times the scales of their values, over most[i], the largest that row i sees; shift[i] is what
  /// zero points add to it.
  __device__ __forceinline__ void scale_weights(float (&s)[kScoreTiles][4], uint4 (&p)[kScoreSteps],
                                                float (&most)[2], float (&shift)[2]) const {
    const auto* scales = reinterpret_cast<const float*>(block_ + kLayout.value_scales()) + position(0);
    float scale[kScoreTiles][2], zero[kScoreTiles][2];
#pragma unroll
    for (int j = 0; j < kScoreTiles; j += 2) {
      const float4 a = *reinterpret_cast<const float4*>(scales + 2 * j);
      const float4 b = *reinterpret_cast<const float4*>(scales + kPage + 2 * j);
      scale[j][0] = a.x, scale[j][1] = a.y, scale[j + 1][0] = a.z, scale[j + 1][1] = a.w;
      zero[j][0] = b.x, zero[j][1] = b.y, zero[j + 1][0] = b.z, zero[j + 1][1] = b.w;
    }
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      float largest = 0;
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
        largest = fmaxf(largest, s[j][2 * i] > 0 ? scale[j][0] : 0);
        largest = fmaxf(largest, s[j][2 * i + 1] > 0 ? scale[j][1] : 0);
      }
      most[i] = quad_max(largest);
      const float inverse = most[i] > 0 ? __fdiv_rn(1, most[i]) : 0;
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          s[j][2 * i + c] = weighed(s[j][2 * i + c], __fmul_rn(scale[j][c], inverse));
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kScoreSteps; ++i) {
      p[i] = pack(s[2 * i], s[2 * i + 1]);
      shift[0] = dot(unpack(p[i].x), zero[2 * i], dot(unpack(p[i].z), zero[2 * i + 1], shift[0]));
      if (kLaneRows == 1) continue;
      shift[1] = dot(unpack(p[i].y), zero[2 * i], dot(unpack(p[i].w), zero[2 * i + 1], shift[1]));
    }
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) shift[i] = quad_sum(shift[i]);
  }
  /// Positions that nothing was stored at may have any scale.
  static __device__ __forceinline__ float weighed(float weight, float by) {
    return weight == 0 ? 0 : __fmul_rn(weight, by);
  }
  static __device__ __forceinline__ float dot(float2 pair, const float (&zero)[2], float sum) {
    sum = pair.x == 0 ? sum : __fmaf_rn(pair.x, zero[0] - kCentre, sum);
    return pair.y == 0 ? sum : __fmaf_rn(pair.y, zero[1] - kCentre, sum);
  }

  static __device__ __forceinline__ void multiply(ValueStream& stream, const uint4 (&p)[kScoreSteps],
                                                  Attended<kDim>& result) {
#pragma unroll
    for (auto& tile : result.out) {
#pragma unroll
      for (float& v : tile) v = 0;
    }
    stream.each([&](int tile, int step, const auto& piece, int unit) {
      if constexpr (kFormat == KvFormat::kInt4) {
        const auto low = expand_bytes(piece.word[unit] & 0x0F0F0F0F, kNibbleCentre);
        const auto high = expand_bytes(piece.word[unit] >> 4 & 0x0F0F0F0F, kNibbleCentre);
        ptx::mma(result.out[tile], p[step], low.first, low.second);
        ptx::mma(result.out[tile + kValueTiles], p[step], high.first, high.second);
      } else {
        const auto [first, second] = piece.unit(unit);
        ptx::mma(result.out[tile], p[step], first, second);
      }
    });
  }

  const uint8_t* block_;
};

}  // namespace tessera::cuda
