// Decode: sequences with one row each. A unit is a span of one sequence for the heads that share a key head.
// Blocks take units in turn, a warp a page of each, and leave what the span adds up to.
//   bound     by memory: a warp's next keys and values are on their way while it computes
//   latency   a block's chain is its span (one load), pages and queries (one more), products
#pragma once

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/decode_feed.cuh"
#include "tessera/kernels/cuda/attention/decode_page.cuh"

namespace tessera::cuda {

/// Blocks on a multiprocessor: what a warp keeps of a page decides.
template <int kDim, int kRows>
constexpr int kDecodeBlocks = kDim > 128  ? 2
                              : kRows > 8 ? 3
                                          : 4;

/// This warp's page of the unit, which it sees.
template <KvFormat kFormat, int kDim, int kRows>
__device__ __forceinline__ void attend_to_page(const AttentionProblem& p, const DecodeGrid& grid,
                                               const DecodeUnit& unit, PageFeed<kFormat, kDim>& feed,
                                               const QueryTiles<kDim, kRows>& queries,
                                               DecodeResult<kDim, kRows>& result) {
  const DecodeView view{unit.begin(p), unit.end(), ScoreRule::of<kDim>(p.alibi_slopes),
                        static_cast<float>(-unit.distance())};
  float slopes[kDecodeTiles<kRows>][2] = {};
  if (view.rule.sloped) {
    each_query<kRows>([&](int q, int i, int row) {
      if (row >= unit.heads(grid)) return;
      slopes[q][i] = ScoreRule::slope(p.alibi_slopes, unit.first_head(grid) + row);
    });
  }
  DecodePage<kFormat, kDim, kRows>::attend(feed, queries, view, slopes, result);
}

/// `out` [rows][kDim] and `ends` [rows] of a result.
template <KvFormat kFormat, int kDim, int kRows>
__device__ __forceinline__ void store_rows(const DecodeResult<kDim, kRows>& from, int rows, float* out,
                                           float2* ends) {
  each_query<kRows>([&](int q, int i, int row) {
    if (row >= rows) return;
#pragma unroll
    for (int m = 0; m < kDim / 16; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
        out[row * kDim + DecodePage<kFormat, kDim, kRows>::dimension(m, h)] = from.out[q][m][2 * h + i];
    }
    if (threadIdx.x % 32 < 4) ends[row] = {from.most[q][i], from.sum[q][i]};
  });
}

/// One element, added up over pages. `ends`: the largest score and the sum of weights of its row.
struct FoldedElement {
  float most = -INFINITY, sum = 0, out = 0;

  __device__ __forceinline__ void add(float2 ends, float element) {
    const FoldFactors factors(most, ends.x);
    most = factors.most;
    sum = factors.add(sum, ends.y);
    out = factors.add(out, element);
  }
};

/// kRows: query heads of a unit at most.
template <KvFormat kFormat, int kDim, int kRows>
__global__ void __launch_bounds__(32 * kSpanPages, kDecodeBlocks<kDim, kRows>)
    decode_kernel(const __grid_constant__ AttentionProblem p, const __grid_constant__ DecodeGrid grid) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  auto* const sums = reinterpret_cast<float*>(shared_bytes);
  auto* const ends = reinterpret_cast<float2*>(sums + kSpanPages * grid.rows * kDim);
  const int warp = static_cast<int>(threadIdx.x / 32), heads = DecodeUnit::heads(grid);
  // The kernel before this one may still write this step's rows, each into the last page of its sequence.
  PageFeed<kFormat, kDim> feed(p, grid, shared_bytes + decode_sum_bytes(kDim, grid.rows));
  const bool early = feed.starts_early();
  if (early) feed.start();
  ptx::wait_for_predecessors();
  ptx::launch_dependents();
  if (!early) feed.start();
  QueryTiles<kDim, kRows> queries;
  const auto load_queries = [&](const DecodeUnit& unit) {
    queries.load(
        static_cast<const __half*>(p.q.data) + unit.row() * p.q.stride + unit.first_head(grid) * kDim, heads);
  };
  DecodeUnit unit(p), next = unit;
  load_queries(unit);
  for (; unit.exists(); unit = next) {
    next.advance(p, grid);
    DecodeResult<kDim, kRows> result;
    if (unit.sees_page(p)) attend_to_page(p, grid, unit, feed, queries, result);
    load_queries(next);
    __syncthreads();  // the sums before have been read
    store_rows<kFormat>(result, heads, sums + warp * grid.rows * kDim, ends + warp * grid.rows);
    __syncthreads();
    const int64_t to = unit.result(p, grid);
    for (int i = static_cast<int>(threadIdx.x); i < heads * kDim; i += static_cast<int>(blockDim.x)) {
      FoldedElement element;
#pragma unroll
      for (int w = 0; w < kSpanPages; ++w)
        element.add(ends[w * grid.rows + i / kDim], sums[w * grid.rows * kDim + i]);
      p.spans.out[to * kDim + i] = element.out;
      if (i % kDim == 0) p.spans.ends[to + i / kDim] = {element.most, element.sum};
    }
  }
}

}  // namespace tessera::cuda
