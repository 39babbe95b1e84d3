// Decode: attention of up to 8 or 16 queries of one token to one page, by one warp, keys and values as
// operand A, queries as operand B: half the products and registers of page.cuh, where they would be operand A
// and most of its 16 rows idle. Elements by arithmetic.cuh: the bits are those of page.cuh.
#pragma once

#include "tessera/kernels/cuda/attention/arithmetic.cuh"
#include "tessera/kernels/cuda/attention/operands.cuh"

namespace tessera::cuda {

/// Tiles of eight queries.
template <int kRows>
constexpr int kDecodeTiles = (kRows + 7) / 8;

/// Calls function(tile, i, query) for the queries 8 tile + 2 t + i of lane 4 g + t; of one query, that of
/// lanes with t = 0 alone counts.
template <int kRows, class Function>
__device__ __forceinline__ void each_query(Function function) {
  constexpr int kOwn = kRows == 1 ? 1 : 2;
#pragma unroll
  for (int q = 0; q < kDecodeTiles<kRows>; ++q) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) function(q, i, 8 * q + 2 * static_cast<int>(threadIdx.x % 4) + i);
  }
}

/// Queries as operand B, eight a tile; lane 4 g + t holds query g of each.
template <int kDim, int kRows>
struct QueryTiles {
  static constexpr int kSteps = kDim / 16, kTiles = kDecodeTiles<kRows>;
  uint2 step[kTiles][kSteps];

  /// `count` neighbouring queries; others are zeros.
  __device__ __forceinline__ void load(const __half* queries, int count) {
    const int g = static_cast<int>(threadIdx.x % 32 / 4), t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
    for (int q = 0; q < kTiles; ++q) {
      const __half* const from = queries + (8 * q + g) * kDim + t * (kDim / 4);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        step[q][s] = {};
        if (8 * q + g < count) step[q][s] = *reinterpret_cast<const uint2*>(from + 4 * s);
      }
    }
  }
  /// Over the dimensions, of queries 2 t and 2 t + 1 of a tile.
  __device__ __forceinline__ void add_up(float (&sum)[kTiles][2]) const {
    float own[kTiles] = {};
#pragma unroll
    for (int q = 0; q < kTiles; ++q) {
#pragma unroll
      for (int s = 0; s < kSteps; ++s) own[q] += sum_of_halves(step[q][s]);
      own[q] = quad_sum(own[q]);
    }
    each_query<kRows>([&](int q, int i, int) {
      sum[q][i] = __shfl_sync(~0u, own[q], 4 * (2 * static_cast<int>(threadIdx.x % 4) + i));
    });
  }
};

/// What the queries see of a page.
struct DecodeView {
  int begin, end;  ///< positions in the page
  ScoreRule rule;
  float distance;  ///< from the query to position 0 of the page
};

/// Of query 2 t + i of a tile: most[tile][i], sum[tile][i], and out[tile][m][2 h + i], dimension
/// DecodePage::dimension(m, h) of lane 4 g + t.
template <int kDim, int kRows>
struct DecodeResult {
  static constexpr int kTiles = kDecodeTiles<kRows>;
  float most[kTiles][2], sum[kTiles][2];
  float out[kTiles][kDim / 16][4];

  __device__ __forceinline__ DecodeResult() {
#pragma unroll
    for (int q = 0; q < kTiles; ++q) {
#pragma unroll
      for (int i = 0; i < 2; ++i) most[q][i] = -INFINITY, sum[q][i] = 0;
#pragma unroll
      for (auto& tile : out[q]) {
#pragma unroll
        for (float& v : tile) v = 0;
      }
    }
  }
};

/// Attention to the block of one head of one page.
template <KvFormat kFormat, int kDim, int kRows>
class DecodePage {
 public:
  using Result = DecodeResult<kDim, kRows>;
  static constexpr int kTiles = kDecodeTiles<kRows>;
  static constexpr PageLayout kLayout{kFormat, kDim};

  /// `feed`: gives the keys, and then the values, each with its scales behind it, in shared memory.
  /// `slopes`: ALiBi's of queries 2 t and 2 t + 1 of each tile.
  template <class Feed>
  static __device__ __forceinline__ void attend(Feed& feed, const QueryTiles<kDim, kRows>& queries,
                                                const DecodeView& view, const float (&slopes)[kTiles][2],
                                                Result& result) {
    float s[kTiles][kPairs][4] = {}, query_sum[kTiles][2];
    if constexpr (is_quantized(kFormat)) queries.add_up(query_sum);
    const uint8_t* const keys = feed.take();
    TileStream<kLayout.keys(), kScoreTiles>(keys).each_pair(
        [&](int pair, int step, const auto& low, const auto& high, int unit) {
          const auto [a, b] = low.unit(unit);
          const auto [c, d] = high.unit(unit);
#pragma unroll
          for (int q = 0; q < kTiles; ++q)
            ptx::mma(s[q][pair], {a, c, b, d}, queries.step[q][step].x, queries.step[q][step].y);
        });
    score(scales_of(keys), query_sum, view, slopes, s);
    feed.release();
    uint2 p[kTiles][kPairs];
    float most[kTiles][2], shift[kTiles][2];
    weigh(s, result);
    const uint8_t* const values = feed.take();
    if constexpr (is_quantized(kFormat)) scale_weights(scales_of(values), s, most, shift);
#pragma unroll
    for (int q = 0; q < kTiles; ++q) {
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        p[q][j] = {transposed(pack_halves(s[q][j][0], s[q][j][1])),
                   transposed(pack_halves(s[q][j][2], s[q][j][3]))};
      }
    }
    multiply(values, p, result);
    feed.release();
    if constexpr (is_quantized(kFormat)) {
      each_query<kRows>([&](int q, int i, int) {
#pragma unroll
        for (auto& tile : result.out[q]) {
#pragma unroll
          for (int h = 0; h < 2; ++h) tile[2 * h + i] = unscaled(tile[2 * h + i], shift[q][i], most[q][i]);
        }
      });
    }
  }

  /// Of out[.][m][2 h + i].
  static __device__ __forceinline__ int dimension(int m, int h) {
    return kFormat == KvFormat::kInt4 ? 8 * m + group() + h * (kDim / 2) : 16 * m + group() + 8 * h;
  }

 private:
  static constexpr int kCentre = code_centre(kFormat), kPairs = kScoreTiles / 2;

  static __device__ __forceinline__ const float* scales_of(const uint8_t* codes) {
    return reinterpret_cast<const float*>(codes + kLayout.code_bytes());
  }
  static __device__ __forceinline__ int group() {
    return static_cast<int>(threadIdx.x % 32 / 4);
  }
  /// Of s[.][pair][2 h + i].
  static __device__ __forceinline__ int position(int pair, int h) {
    return score_position(2 * pair + h, group());
  }
  /// An 8 x 8 matrix of halves, of which lane 4 g + t holds row g, columns 2 t and 2 t + 1.
  static __device__ __forceinline__ uint32_t transposed(uint32_t pair) {
    uint32_t to;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(to) : "r"(pair));
    return to;
  }
  /// The last steps of a sum over positions: over the eight columns of score_position().
  static __device__ __forceinline__ float column_sum(float x) {
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) {
      x = __fadd_rn(x, __shfl_xor_sync(~0u, x, distance));
    }
    return x;
  }
  static __device__ __forceinline__ float column_max(float x) {
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
    return x;
  }
  /// Calls function(pair, half of it) in ascending order of tiles.
  template <class Function>
  static __device__ __forceinline__ void each_key(Function function) {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) function(j, h);
    }
  }

  static __device__ __forceinline__ void score(const float* scales, const float (&query_sum)[kTiles][2],
                                               const DecodeView& view, const float (&slopes)[kTiles][2],
                                               float (&s)[kTiles][kPairs][4]) {
    const bool whole = view.begin <= 0 && view.end >= kPage;
    each_key([&](int j, int h) {
      const int at = position(j, h);
      float scale = 1, zero = 0;
      if constexpr (is_quantized(kFormat)) scale = scales[at], zero = scales[kPage + at] - kCentre;
      each_query<kRows>([&](int q, int i, int) {
        float& v = s[q][j][2 * h + i];
        if constexpr (is_quantized(kFormat)) v = unscaled_score(v, query_sum[q][i], scale, zero);
        v = view.rule.score(v);
        if (view.rule.sloped) v = view.rule.biased(v, slopes[q][i], view.distance + static_cast<float>(at));
        if (!whole && (at < view.begin || at >= view.end)) v = -INFINITY;
      });
    });
  }

  /// Scores become weights.
  static __device__ __forceinline__ void weigh(float (&s)[kTiles][kPairs][4], Result& result) {
    each_query<kRows>([&](int q, int i, int) {
      float most = -INFINITY, sum = 0;
      each_key([&](int j, int h) { most = fmaxf(most, s[q][j][2 * h + i]); });
      most = column_max(most);
      each_key([&](int j, int h) {
        float& v = s[q][j][2 * h + i];
        v = weight_of(v, most);
        sum = __fadd_rn(sum, v);
      });
      result.most[q][i] = most;
      result.sum[q][i] = column_sum(sum);
    });
  }

  /// Weights times the scales of their values, over `most`, the largest that the query sees; `shift` is what
  /// zero points add.
  static __device__ __forceinline__ void scale_weights(const float* scales, float (&s)[kTiles][kPairs][4],
                                                       float (&most)[kTiles][2], float (&shift)[kTiles][2]) {
    float scale[kPairs][2], zero[kPairs][2];
    each_key([&](int j, int h) {
      scale[j][h] = scales[position(j, h)];
      zero[j][h] = scales[kPage + position(j, h)] - kCentre;
    });
    each_query<kRows>([&](int q, int i, int) {
      float largest = 0, sum = 0;
      each_key([&](int j, int h) { largest = fmaxf(largest, seen(s[q][j][2 * h + i], scale[j][h])); });
      largest = column_max(largest);
      const float inverse = largest > 0 ? __fdiv_rn(1, largest) : 0;
      each_key([&](int j, int h) {
        float& v = s[q][j][2 * h + i];
        v = scaled_weight(v, scale[j][h], inverse);
        sum = add_shift(sum, v, zero[j][h]);
      });
      most[q][i] = largest;
      shift[q][i] = column_sum(sum);
    });
  }

  static __device__ __forceinline__ void multiply(const uint8_t* from, const uint2 (&p)[kTiles][kPairs],
                                                  Result& result) {
    TileStream<kLayout.values(), kLayout.value_rows() / 8> values(from);
    const auto product = [&](int m, int step, const uint4& a) {
#pragma unroll
      for (int q = 0; q < kTiles; ++q) ptx::mma(result.out[q][m], a, p[q][step].x, p[q][step].y);
    };
    if constexpr (kFormat == KvFormat::kInt4) {
      values.each([&](int tile, int step, const auto& piece, int unit) {
        const auto [low, high] = expand_value_nibbles(piece.word[unit]);
        product(tile, step, {low.first, high.first, low.second, high.second});
      });
    } else {
      values.each_pair([&](int pair, int step, const auto& low, const auto& high, int unit) {
        const auto [a, b] = low.unit(unit);
        const auto [c, d] = high.unit(unit);
        product(pair, step, {a, c, b, d});
      });
    }
  }
};

}  // namespace tessera::cuda
