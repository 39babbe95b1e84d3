// Decode: sequences with one row each. A block takes a span of one sequence for the heads that share a key
// head, a warp a page; the last block of a sequence to finish adds its spans up.
//   bound     by memory: pages go straight into registers, in the order in which they lie there
//   products  rows of operand A beyond the heads that share a key head are idle: up to 15 of 16, which costs
//   less
//             time than the bytes of a page do
#pragma once

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/page.cuh"

namespace tessera::cuda {

/// Groups of pieces on their way: enough for the latency of device memory.
constexpr int kDecodeAhead = 3;
template <KvFormat kFormat, int kDim>
using DecodePage = Page<kFormat, kDim, (kDim <= 128 ? kDecodeAhead : 0)>;
constexpr int kDecodeBlocks = 3;  ///< on a multiprocessor

/// Shared memory of a block: of each row and page, `out` and behind all of them most and sum.
template <int kDim>
constexpr int decode_shared_bytes(int rows) {
  return kSpanPages * rows * (kDim + 2) * static_cast<int>(sizeof(float));
}

/// The pieces that a lane's rows of a result are, wherever they lie.
template <int kDim>
__device__ __forceinline__ void store_rows(const Attended<kDim>& from, int rows, float* out, float2* ends) {
  const int g = static_cast<int>(threadIdx.x % 32 / 4), t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = g + 8 * i;
    if (row >= rows) break;
#pragma unroll
    for (int a = 0; a < Attended<kDim>::kTiles; ++a) {
      *reinterpret_cast<float2*>(out + row * kDim + 8 * a + 2 * t) = {from.out[a][2 * i],
                                                                      from.out[a][2 * i + 1]};
    }
    if (t == 0) ends[row] = {from.most[i], from.sum[i]};
  }
}

/// What a block of the decode kernel works on.
struct DecodeUnit {
  DecodeRow row;
  int span, spans;    ///< which of the sequence's
  int64_t index;      ///< of the span in the step
  int kv_head, head;  ///< first query head
  int rows;           ///< heads

  __device__ __forceinline__ DecodeUnit(const AttentionProblem& p, int64_t unit) {
    const int shared = p.heads / p.pages.kv_heads, tiles = (shared + 15) / 16;
    const int groups = p.pages.kv_heads * tiles, group = static_cast<int>(unit % groups);
    index = unit / groups;
    kv_head = group / tiles;
    head = kv_head * shared + group % tiles * 16;
    rows = min(16, shared - group % tiles * 16);
    int low = 0, high = p.counts->decode_rows - 1;  // the last row whose first span is not behind `index`
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (p.decode[middle].first_span <= index) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    row = p.decode[low];
    span = static_cast<int>(index) - row.first_span;
    spans = row.position / kSpanTokens + 1;
    arrival = low * p.heads + head;
  }
  int arrival;  ///< of the sequence and its heads in AttentionProblem::arrivals
};

/// Where element `at` = row * head_dim + dimension of the unit's heads goes.
__device__ __forceinline__ __half* output(const AttentionProblem& p, const DecodeUnit& unit, int at) {
  return static_cast<__half*>(p.out.data) + unit.row.row * p.out.stride + unit.head * p.pages.head_dim + at;
}

/// Adds up results `first`, first + step, ... of one element. ends[i] is the maximum and sum of its row in
/// the i-th, out[i] the element.
struct FoldedElement {
  float most = -INFINITY, sum = 0, out = 0;

  __device__ __forceinline__ void add(float2 ends, float element) {
    const FoldFactors factors(most, ends.x);
    most = factors.most;
    sum = factors.add(sum, ends.y);
    out = factors.add(out, element);
  }
};

/// This warp's page of the unit; null where the sequence ends before it or its window begins behind it.
template <KvFormat kFormat, int kDim>
__device__ __forceinline__ const uint8_t* page_block(const AttentionProblem& p, const DecodeUnit& unit) {
  const int page = unit.span * kSpanPages + static_cast<int>(threadIdx.x / 32);
  const int end = unit.row.position + 1 - page * kPage;
  if (end <= 0 || (p.window > 0 && end - p.window >= kPage)) return nullptr;
  return p.pages.memory + p.page_list[unit.row.first_page + page] * p.pages.page_bytes +
         unit.kv_head * PageLayout{kFormat, kDim}.bytes();
}

template <KvFormat kFormat, int kDim>
__device__ __forceinline__ Attended<kDim> attend_to_page(const AttentionProblem& p, const DecodeUnit& unit) {
  const int page = unit.span * kSpanPages + static_cast<int>(threadIdx.x / 32);
  Attended<kDim> result;
  const int end = unit.row.position + 1 - page * kPage;
  const int begin = p.window > 0 ? max(0, end - p.window) : 0;
  const uint8_t* const block = page_block<kFormat, kDim>(p, unit);
  if (!block) return result;
  Queries<kDim> q;
  const int g = static_cast<int>(threadIdx.x % 32 / 4);
  const auto* rows = static_cast<const __half*>(p.q.data) + unit.row.row * p.q.stride + unit.head * kDim;
  q.load(g < unit.rows ? rows + g * kDim : nullptr, g + 8 < unit.rows ? rows + (g + 8) * kDim : nullptr);
  PageView view{{begin, begin}, {end, end}, softmax_scale<kDim>()};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool sloped = p.alibi_slopes && g + 8 * i < unit.rows;
    view.slope[i] = sloped ? p.alibi_slopes[unit.head + g + 8 * i] * kLog2E : 0;
    view.distance[i] = static_cast<float>(page * kPage - unit.row.position);
  }
  DecodePage<kFormat, kDim>(block).attend(q, view, result);
  return result;
}

template <KvFormat kFormat, int kDim, int kRows>
__global__ void __launch_bounds__(32 * kSpanPages, kDim <= 128 ? kDecodeBlocks : 1)
    decode_kernel(const __grid_constant__ AttentionProblem p) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  auto* const shared = reinterpret_cast<float*>(shared_bytes);
  auto* const ends = reinterpret_cast<float2*>(shared + kSpanPages * kRows * kDim);
  __shared__ bool last;
  const int groups = p.pages.kv_heads * ((p.heads / p.pages.kv_heads + 15) / 16);
  const int64_t units = int64_t{p.counts->spans} * groups;
  ptx::wait_for_predecessors();
  ptx::launch_dependents();
  for (int64_t i = blockIdx.x; i < units; i += gridDim.x) {
    const DecodeUnit unit(p, i);
    const int warp = static_cast<int>(threadIdx.x / 32);
    store_rows(attend_to_page<kFormat, kDim>(p, unit), min(unit.rows, kRows), shared + warp * kRows * kDim,
               ends + warp * kRows);
    __syncthreads();
    float* const partials = p.partials + (unit.index * p.heads + unit.head) * kDim;
    auto* const partial_ends =
        reinterpret_cast<float2*>(p.partials + int64_t{p.counts->spans} * p.heads * kDim) +
        unit.index * p.heads + unit.head;
    for (int at = static_cast<int>(threadIdx.x); at < unit.rows * kDim; at += static_cast<int>(blockDim.x)) {
      FoldedElement element;
#pragma unroll
      for (int w = 0; w < kSpanPages; ++w) {
        element.add(ends[w * kRows + at / kDim], shared[w * kRows * kDim + at]);
      }
      if (unit.spans == 1) {
        *output(p, unit, at) = __float2half_rn(__fdiv_rn(element.out, element.sum));
      } else {
        partials[at] = element.out;
        if (at % kDim == 0) partial_ends[at / kDim] = {element.most, element.sum};
      }
    }
    if (unit.spans > 1) {
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0) {
        last = atomicAdd(&p.arrivals[unit.arrival], 1) == unit.spans - 1;
        if (last) p.arrivals[unit.arrival] = 0;
      }
      __syncthreads();
      if (last) {
        __threadfence();
        const int64_t first = unit.row.first_span - unit.index;
        for (int at = static_cast<int>(threadIdx.x); at < unit.rows * kDim;
             at += static_cast<int>(blockDim.x)) {
          FoldedElement element;
          for (int64_t s = first; s < first + unit.spans; ++s) {
            element.add(__ldcg(&partial_ends[s * p.heads + at / kDim]),
                        __ldcg(&partials[s * p.heads * kDim + at]));
          }
          *output(p, unit, at) = __float2half_rn(__fdiv_rn(element.out, element.sum));
        }
      }
    }
    __syncthreads();
  }
}

}  // namespace tessera::cuda
