// Prefill: attention of a warp's 16 rows to one page, queries as operand A, keys and values as operand B.
// Elements by arithmetic.cuh.
#pragma once

#include "tessera/kernels/cuda/attention/arithmetic.cuh"
#include "tessera/kernels/cuda/attention/operands.cuh"

namespace tessera::cuda {

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
      sum[0] += sum_of_halves(a);
      sum[1] += sum_of_halves(b);
    }
    sum[0] = quad_sum(sum[0]);
    sum[1] = quad_sum(sum[1]);
  }
};

/// What a lane's two rows see of a page, and how scores are scaled.
struct PageView {
  int begin[2], end[2];  ///< positions in the page
  ScoreRule rule;
  float slope[2];     ///< ScoreRule::slope of the rows' heads
  float distance[2];  ///< from the query to position 0 of the page
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

/// The block of one head of one page, in shared memory.
template <KvFormat kFormat, int kDim>
class Page {
 public:
  static constexpr PageLayout kLayout{kFormat, kDim};

  __device__ __forceinline__ explicit Page(const uint8_t* block) : block_(block) {}

  __device__ __forceinline__ void attend(const Queries<kDim>& q, const PageView& view,
                                         Attended<kDim>& result) const {
    float s[kScoreTiles][4];
    scores(q, view, s);
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
    multiply(p, result);
    if constexpr (is_quantized(kFormat)) {
#pragma unroll
      for (auto& tile : result.out) {
#pragma unroll
        for (int c = 0; c < 4; ++c) tile[c] = unscaled(tile[c], shift[c / 2], most[c / 2]);
      }
    }
  }

 private:
  static constexpr int kCentre = code_centre(kFormat);
  static constexpr Fragments kKeys = kLayout.keys(), kValues = kLayout.values();
  static constexpr int kValueTiles = kLayout.value_rows() / 8;

  /// Position of the lane's first score in a tile.
  static __device__ __forceinline__ int position(int tile) {
    return score_position(tile, 2 * static_cast<int>(threadIdx.x % 4));
  }

  __device__ __forceinline__ void scores(const Queries<kDim>& q, const PageView& view,
                                         float (&s)[kScoreTiles][4]) const {
#pragma unroll
    for (auto& tile : s) {
#pragma unroll
      for (float& v : tile) v = 0;
    }
    TileStream<kKeys, kScoreTiles>(block_).each([&](int tile, int step, const auto& piece, int unit) {
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
      for (int c = 0; c < 4; ++c) {
        const int row = c / 2;
        if constexpr (is_quantized(kFormat)) {
          s[j][c] = c % 2 == 0 ? unscaled_score(s[j][c], q.sum[row], scale.x, zero.x - kCentre)
                               : unscaled_score(s[j][c], q.sum[row], scale.y, zero.y - kCentre);
        }
        s[j][c] = view.rule.score(s[j][c]);
        if (view.rule.sloped) {
          s[j][c] = view.rule.biased(s[j][c], view.slope[row],
                                     view.distance[row] + static_cast<float>(position(j) + c % 2));
        }
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
      for (int c = 0; c < 4; ++c) {
        const int at = position(j) + c % 2;
        if (at < view.begin[c / 2] || at >= view.end[c / 2]) s[j][c] = -INFINITY;
      }
    }
  }

  /// Scores become weights.
  static __device__ __forceinline__ void weigh(float (&s)[kScoreTiles][4], Attended<kDim>& result) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float most = -INFINITY;
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) most = fmaxf(most, fmaxf(s[j][2 * i], s[j][2 * i + 1]));
      most = quad_max(most);
      float sum[2] = {};
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          s[j][2 * i + c] = weight_of(s[j][2 * i + c], most);
          sum[c] = __fadd_rn(sum[c], s[j][2 * i + c]);
        }
      }
      result.most[i] = most;
      result.sum[i] = quad_sum(__fadd_rn(sum[0], sum[1]));
    }
  }

  /// Operand A of a step out of two tiles of weights.
  static __device__ __forceinline__ uint4 pack(const float (&a)[4], const float (&b)[4]) {
    return {pack_halves(a[0], a[1]), pack_halves(a[2], a[3]), pack_halves(b[0], b[1]),
            pack_halves(b[2], b[3])};
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
    for (int i = 0; i < 2; ++i) {
      most[i] = 0;
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
        for (int c = 0; c < 2; ++c) most[i] = fmaxf(most[i], seen(s[j][2 * i + c], scale[j][c]));
      }
      most[i] = quad_max(most[i]);
      const float inverse = most[i] > 0 ? __fdiv_rn(1, most[i]) : 0;
      float sum[2] = {};
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& weight = s[j][2 * i + c];
          weight = scaled_weight(weight, scale[j][c], inverse);
          sum[c] = add_shift(sum[c], weight, zero[j][c] - kCentre);
        }
      }
      shift[i] = quad_sum(__fadd_rn(sum[0], sum[1]));
    }
#pragma unroll
    for (int i = 0; i < kScoreSteps; ++i) p[i] = pack(s[2 * i], s[2 * i + 1]);
  }

  __device__ __forceinline__ void multiply(const uint4 (&p)[kScoreSteps], Attended<kDim>& result) const {
#pragma unroll
    for (auto& tile : result.out) {
#pragma unroll
      for (float& v : tile) v = 0;
    }
    TileStream<kValues, kValueTiles>(block_ + kLayout.values_begin())
        .each([&](int tile, int step, const auto& piece, int unit) {
          if constexpr (kFormat == KvFormat::kInt4) {
            const auto [low, high] = expand_value_nibbles(piece.word[unit]);
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
