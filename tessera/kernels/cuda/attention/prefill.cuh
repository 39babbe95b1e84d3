// Prefill: runs of neighbouring rows of one sequence. A block takes up to 16 rows a warp, of the tokens and
// the heads that share a key head, and walks over the pages that they see; pages pass through a ring in
// shared memory.
#pragma once

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/page.cuh"

namespace tessera::cuda {

/// Warps of a block where shared memory suffices; otherwise half of them.
template <int kDim>
constexpr int kMostPrefillWarps = prefill_rows(kDim) / 16;

/// Pages in shared memory; with three a page needs one barrier.
template <int kDim, int kWarps>
constexpr int kRingPages = kDim <= 128 && kWarps == kMostPrefillWarps<kDim> ? 3 : 2;

/// Totals of every thread, and the ring.
template <KvFormat kFormat, int kDim, int kWarps>
constexpr int kPrefillSharedBytes = kWarps * 32 * (kDim / 2) * static_cast<int>(sizeof(float)) +
                                    kRingPages<kDim, kWarps>* PageLayout{kFormat, kDim}.bytes();

/// What a block of the prefill kernel works on: rows are tokens x heads, heads first.
struct PrefillUnit {
  PrefillRows rows;
  int kv_head, shared_heads;
  int first;  ///< row of the block's first warp

  /// Task `task` of the step, counted from the end: later rows of a sequence see more and start first.
  template <int kDim>
  static __device__ __forceinline__ PrefillUnit find(const AttentionProblem& p, int64_t task, int kv_head) {
    const int shared_heads = p.heads / p.pages.kv_heads, tokens = prefill_rows(kDim) / shared_heads;
    PrefillRows rows{};
    for (int s = p.counts->prefill_sequences - 1; s >= 0; --s) {
      rows = p.prefill[s];
      const int tasks = (rows.count + tokens - 1) / tokens;
      if (task < tasks) {
        const int begin = static_cast<int>(tasks - 1 - task) * tokens;
        rows = {rows.row + begin, min(tokens, rows.count - begin), rows.position + begin, rows.first_page};
        break;
      }
      task -= tasks;
    }
    return {rows, kv_head, shared_heads, 0};
  }

  __device__ __forceinline__ int token(int row) const { return row / shared_heads; }
  __device__ __forceinline__ bool exists(int row) const { return token(row) < rows.count; }
  __device__ __forceinline__ int64_t offset(const HeadRows& of, int row, int head_dim) const {
    return (rows.row + token(row)) * of.stride + (kv_head * shared_heads + row % shared_heads) * head_dim;
  }
};

/// A thread's totals over spans in shared memory, in a column of its own.
template <int kDim>
class Totals {
 public:
  __device__ __forceinline__ Totals(float4* memory, int threads)
      : column_(memory + threadIdx.x), threads_(threads) {
#pragma unroll
    for (int a = 0; a < kDim / 8; ++a) column_[a * threads_] = {};
  }
  __device__ __forceinline__ void add(const Attended<kDim>& span) {
    const FoldFactors low(most_[0], span.most[0]), high(most_[1], span.most[1]);
    most_[0] = low.most, most_[1] = high.most;
    sum_[0] = low.add(sum_[0], span.sum[0]), sum_[1] = high.add(sum_[1], span.sum[1]);
#pragma unroll
    for (int a = 0; a < kDim / 8; ++a) {
      float4& v = column_[a * threads_];
      v = {low.add(v.x, span.out[a][0]), low.add(v.y, span.out[a][1]), high.add(v.z, span.out[a][2]),
           high.add(v.w, span.out[a][3])};
    }
  }
  /// Two neighbouring outputs of the lane's row i.
  __device__ __forceinline__ __half2 result(int tile, int i) const {
    const float4 v = column_[tile * threads_];
    return __floats2half2_rn(__fdiv_rn(i == 0 ? v.x : v.z, sum_[i]), __fdiv_rn(i == 0 ? v.y : v.w, sum_[i]));
  }

 private:
  float4* column_;
  int threads_;
  float most_[2] = {-INFINITY, -INFINITY}, sum_[2] = {};
};

template <KvFormat kFormat, int kDim, int kWarps>
__global__ void __launch_bounds__(32 * kWarps) prefill_kernel(const __grid_constant__ AttentionProblem p) {
  using PageOf = Page<kFormat, kDim>;
  constexpr int kRing = kRingPages<kDim, kWarps>;
  constexpr int kBytes = PageOf::kLayout.bytes(), kParts = kMostPrefillWarps<kDim> / kWarps;
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  uint8_t* const ring = shared_bytes;
  const int64_t part = blockIdx.x % kParts, index = blockIdx.x / kParts;
  PrefillUnit unit =
      PrefillUnit::find<kDim>(p, index / p.pages.kv_heads, static_cast<int>(index % p.pages.kv_heads));
  unit.first = static_cast<int>(part) * 16 * kWarps;
  if (!unit.exists(unit.first)) return;

  const int warp = static_cast<int>(threadIdx.x / 32), g = static_cast<int>(threadIdx.x % 32 / 4);
  const int row[2] = {unit.first + 16 * warp + g, unit.first + 16 * warp + g + 8};
  const auto* const queries = static_cast<const __half*>(p.q.data);
  Queries<kDim> q;
  q.load(unit.exists(row[0]) ? queries + unit.offset(p.q, row[0], kDim) : nullptr,
         unit.exists(row[1]) ? queries + unit.offset(p.q, row[1], kDim) : nullptr);
  PageView view{{}, {}, ScoreRule::of<kDim>(p.alibi_slopes)};
  int position[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    position[i] = unit.exists(row[i]) ? unit.rows.position + unit.token(row[i]) : -1;
    if (p.alibi_slopes) {
      const int head = unit.kv_head * unit.shared_heads + row[i] % unit.shared_heads;
      view.slope[i] = ScoreRule::slope(p.alibi_slopes, head);
    }
  }
  // Pages that some row of the block sees, and of them those that some row of the warp sees.
  const int last_row = min(unit.first + 16 * kWarps, unit.rows.count * unit.shared_heads) - 1;
  const int last = (unit.rows.position + unit.token(last_row)) / kPage;
  const int oldest = unit.rows.position + unit.token(unit.first) + 1 - p.window;
  const int first = p.window > 0 && oldest > 0 ? oldest / kPage : 0;

  const auto fetch = [&](int page) {
    if (page <= last) {
      const uint8_t* const from = p.pages.memory +
                                  p.page_list[unit.rows.first_page + page] * p.pages.page_bytes +
                                  unit.kv_head * kBytes;
      const uint32_t to = ptx::shared_address(ring + page % kRing * kBytes);
      for (int at = 16 * static_cast<int>(threadIdx.x); at < kBytes; at += 16 * 32 * kWarps) {
        ptx::copy_async(to + static_cast<uint32_t>(at), from + at, true);
      }
    }
    ptx::commit_copies();
  };
  Totals<kDim> totals(reinterpret_cast<float4*>(shared_bytes + kRing * kBytes), 32 * kWarps);
  Attended<kDim> span;
#pragma unroll
  for (int i = 0; i < kRing - 1; ++i) fetch(first + i);
  for (int page = first; page <= last; ++page) {
    ptx::wait_for_copies<kRing - 2>();
    __syncthreads();  // the page is there, and nobody reads the one before it, whose place the next one takes
    fetch(page + kRing - 1);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      view.end[i] = position[i] + 1 - page * kPage;
      view.begin[i] = p.window > 0 ? max(0, view.end[i] - p.window) : 0;
      view.distance[i] = static_cast<float>(page * kPage - position[i]);
    }
    const bool sees =
        (view.end[0] > 0 && view.begin[0] < kPage) || (view.end[1] > 0 && view.begin[1] < kPage);
    if (__any_sync(~0u, sees)) {
      Attended<kDim> result;
      PageOf(ring + page % kRing * kBytes).attend(q, view, result);
      fold(span, result);
    }
    if (page % kSpanPages == kSpanPages - 1) {
      totals.add(span);
      span = {};
    }
  }
  totals.add(span);
  const int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (!unit.exists(row[i])) continue;
    __half* const out = static_cast<__half*>(p.out.data) + unit.offset(p.out, row[i], kDim);
#pragma unroll
    for (int a = 0; a < kDim / 8; ++a) *reinterpret_cast<__half2*>(out + 8 * a + 2 * t) = totals.result(a, i);
  }
}

}  // namespace tessera::cuda
