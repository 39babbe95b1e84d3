// Decode: sequences with one row each. A block takes a span of one sequence for the heads that share a key
// head, a warp a page, and leaves what the span adds up to.
//   bound     by memory: pages go straight into registers, in the order in which they lie there
//   latency   a block's chain is its span (one load), queries and pages (one more), products
#pragma once

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/decode_page.cuh"

namespace tessera::cuda {

/// Groups of pieces on their way: enough for the latency of device memory.
template <int kDim>
constexpr int kDecodeAhead = kDim <= 128 ? 3 : 1;
/// Blocks on a multiprocessor: what a warp keeps of a page decides.
template <int kDim, int kRows>
constexpr int kDecodeBlocks = kDim > 128  ? 2
                              : kRows > 8 ? 3
                                          : 4;

/// Shared memory of a block: of each row and page, `out` and behind all of them most and sum.
template <int kDim>
constexpr int decode_shared_bytes(int rows) {
  return kSpanPages * rows * (kDim + 2) * static_cast<int>(sizeof(float));
}

/// What a block of the decode kernel works on.
struct DecodeUnit {
  int row, position;     ///< of the sequence
  int page_index, page;  ///< this warp's, in the sequence and in the pool
  int64_t result;        ///< of the first head in SpanResults
  int kv_head, head;     ///< first query head
  int rows;              ///< heads

  __device__ __forceinline__ DecodeUnit(const AttentionProblem& p, uint32_t unit) {
    const uint32_t kv_heads = static_cast<uint32_t>(p.pages.kv_heads);
    const uint32_t shared = static_cast<uint32_t>(p.heads) / kv_heads, tiles = (shared + 15) / 16;
    const uint32_t index = unit / (kv_heads * tiles), group = unit % (kv_heads * tiles);
    const int warp = static_cast<int>(threadIdx.x / 32);
    const DecodeSpan& span = p.decode[index];
    const int4 place = *reinterpret_cast<const int4*>(&span);
    page = span.page[warp];
    row = place.x;
    position = place.y;
    page_index = place.z * kSpanPages + warp;
    kv_head = static_cast<int>(group / tiles);
    head = static_cast<int>(group / tiles * shared + group % tiles * 16);
    rows = static_cast<int>(min(16u, shared - group % tiles * 16));
    result = static_cast<int64_t>(index) * p.heads + head;
  }
};

/// This warp's page of the unit; nothing where the sequence ends before it or its window begins behind it.
template <KvFormat kFormat, int kDim, int kTiles>
__device__ __forceinline__ DecodeResult<kDim, kTiles> attend_to_page(const AttentionProblem& p,
                                                                     const DecodeUnit& unit) {
  DecodeResult<kDim, kTiles> result;
  const int end = unit.position + 1 - unit.page_index * kPage;
  const int begin = p.window > 0 ? max(0, end - p.window) : 0;
  if (end <= 0 || begin >= kPage) return result;
  const uint8_t* const block =
      p.pages.memory + unit.page * p.pages.page_bytes + unit.kv_head * PageLayout{kFormat, kDim}.bytes();
  QueryTiles<kDim, kTiles> queries;
  queries.load(static_cast<const __half*>(p.q.data) + unit.row * p.q.stride + unit.head * kDim, unit.rows);
  const DecodeView view{begin, end, ScoreRule::of<kDim>(p.alibi_slopes),
                        static_cast<float>(unit.page_index * kPage - unit.position)};
  float slopes[kTiles][2] = {};
  if (view.rule.sloped) {
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      const int row = i / 2 * 8 + 2 * static_cast<int>(threadIdx.x % 4) + i % 2;
      if (row < unit.rows) slopes[i / 2][i % 2] = ScoreRule::slope(p.alibi_slopes, unit.head + row);
    }
  }
  DecodePage<kFormat, kDim, kTiles, kDecodeAhead<kDim>>(block).attend(queries, view, slopes, result);
  return result;
}

/// `out` [rows][kDim] and `ends` [rows] of a result.
template <KvFormat kFormat, int kDim, int kTiles>
__device__ __forceinline__ void store_rows(const DecodeResult<kDim, kTiles>& from, int rows, float* out,
                                           float2* ends) {
  using PageOf = DecodePage<kFormat, kDim, kTiles, kDecodeAhead<kDim>>;
#pragma unroll
  for (int i = 0; i < 2 * kTiles; ++i) {
    const int row = i / 2 * 8 + 2 * static_cast<int>(threadIdx.x % 4) + i % 2;
    if (row >= rows) continue;
#pragma unroll
    for (int m = 0; m < kDim / 16; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        out[row * kDim + PageOf::dimension(m, h)] = from.out[i / 2][m][2 * h + i % 2];
      }
    }
    if (threadIdx.x % 32 < 4) ends[row] = {from.most[i / 2][i % 2], from.sum[i / 2][i % 2]};
  }
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

/// kRows: heads that share a key head at most, 8 or 16 of them at a time.
template <KvFormat kFormat, int kDim, int kRows>
__global__ void __launch_bounds__(32 * kSpanPages, kDecodeBlocks<kDim, kRows>)
    decode_kernel(const __grid_constant__ AttentionProblem p) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  auto* const shared = reinterpret_cast<float*>(shared_bytes);
  auto* const ends = reinterpret_cast<float2*>(shared + kSpanPages * kRows * kDim);
  ptx::wait_for_predecessors();
  ptx::launch_dependents();
  const DecodeUnit unit(p, blockIdx.x);
  if (static_cast<int64_t>(p.counts->spans) * p.heads <= unit.result) return;
  const int warp = static_cast<int>(threadIdx.x / 32);
  store_rows<kFormat>(attend_to_page<kFormat, kDim, kRows / 8>(p, unit), min(unit.rows, kRows),
                      shared + warp * kRows * kDim, ends + warp * kRows);
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < unit.rows * kDim; at += static_cast<int>(blockDim.x)) {
    FoldedElement element;
#pragma unroll
    for (int w = 0; w < kSpanPages; ++w) {
      element.add(ends[w * kRows + at / kDim], shared[w * kRows * kDim + at]);
    }
    p.spans.out[unit.result * kDim + at] = element.out;
    if (at % kDim == 0) p.spans.ends[unit.result + at / kDim] = {element.most, element.sum};
  }
}

}  // namespace tessera::cuda
