// Decode: what there is to do, and the pages that it needs on their way into shared memory.
#pragma once

#include <algorithm>

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/page_layout.h"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {

/// How units are shared out.
struct DecodeGrid {
  int shared_heads;             ///< query heads that share a key head
  int rows;                     ///< of them that a unit has at most
  int span_step, kv_head_step;  ///< from a block's unit to its next
  int slots;                    ///< of each warp's ring

  /// `blocks`: gridDim.x
  DecodeGrid(const AttentionProblem& p, int64_t blocks, int ring_slots)
      : shared_heads(p.heads / p.pages.kv_heads),
        rows(std::min(shared_heads, kDecodeRows)),
        span_step(static_cast<int>(blocks / p.pages.kv_heads)),
        kv_head_step(static_cast<int>(blocks % p.pages.kv_heads)),
        slots(ring_slots) {}
};

/// A unit, and this warp's page of it: a span of a sequence, for up to kDecodeRows of the query heads that
/// share a key head, the blockIdx.y-th. Blocks take every gridDim.x-th of spans x key heads.
class DecodeUnit {
 public:
  __device__ __forceinline__ explicit DecodeUnit(const AttentionProblem& p)
      : spans_(p.counts->spans),
        span_(static_cast<int>(blockIdx.x) / p.pages.kv_heads),
        kv_head_(static_cast<int>(blockIdx.x) % p.pages.kv_heads) {
    load(p);
  }
  __device__ __forceinline__ void advance(const AttentionProblem& p, const DecodeGrid& grid) {
    span_ += grid.span_step;
    kv_head_ += grid.kv_head_step;
    if (kv_head_ >= p.pages.kv_heads) kv_head_ -= p.pages.kv_heads, ++span_;
    load(p);
  }
  __device__ __forceinline__ bool exists() const { return span_ < spans_; }

  __device__ __forceinline__ int row() const { return place_.x; }
  __device__ __forceinline__ int first_head(const DecodeGrid& grid) const {
    return kv_head_ * grid.shared_heads + kDecodeRows * static_cast<int>(blockIdx.y);
  }
  static __device__ __forceinline__ int heads(const DecodeGrid& grid) {
    return min(kDecodeRows, grid.shared_heads - kDecodeRows * static_cast<int>(blockIdx.y));
  }
  /// Of the first head in SpanResults.
  __device__ __forceinline__ int64_t result(const AttentionProblem& p, const DecodeGrid& grid) const {
    return static_cast<int64_t>(span_) * p.heads + first_head(grid);
  }
  /// The page's block of the key head.
  __device__ __forceinline__ const uint8_t* block(const AttentionProblem& p, int head_bytes) const {
    return p.pages.memory + page_ * p.pages.page_bytes + kv_head_ * head_bytes;
  }

  /// From the page's first position to the query's.
  __device__ __forceinline__ int distance() const {
    return place_.y - (place_.z * kSpanPages + static_cast<int>(threadIdx.x / 32)) * kPositions;
  }
  /// What the query sees of the page.
  __device__ __forceinline__ int end() const { return distance() + 1; }
  __device__ __forceinline__ int begin(const AttentionProblem& p) const {
    return p.window > 0 ? max(0, end() - p.window) : 0;
  }
  /// False where the sequence ends before the page or its window begins behind it.
  __device__ __forceinline__ bool sees_page(const AttentionProblem& p) const {
    return end() > 0 && begin(p) < kPositions;
  }
  /// True when the page holds no row of this step.
  __device__ __forceinline__ bool page_is_complete() const { return distance() >= kPositions; }

 private:
  static constexpr int kPositions = static_cast<int>(kPageTokens);

  /// Nobody waits for what it loads before asking.
  __device__ __forceinline__ void load(const AttentionProblem& p) {
    if (!exists()) return;
    const DecodeSpan& span = p.decode[span_];
    place_ = *reinterpret_cast<const int4*>(&span);
    page_ = span.page[threadIdx.x / 32];
  }

  int spans_, span_, kv_head_;  ///< spans_: of the step
  int4 place_{};                ///< row, position and index of DecodeSpan
  int page_ = 0;
};

/// Slots in shared memory that one warp fills and empties in turn.
template <int kBytes>
class SlotRing {
 public:
  /// `memory`: the slots of all warps of the block, and behind them a barrier for each.
  __device__ __forceinline__ SlotRing(uint8_t* memory, int slots) : slots_(slots) {
    const int warps = static_cast<int>(blockDim.x / 32), warp = static_cast<int>(threadIdx.x / 32);
    ring_ = memory + warp * slots * kBytes;
    barriers_ = ptx::shared_address(memory + warps * slots * kBytes + warp * slots * 8);
#if __CUDA_ARCH__ >= 900
    for (int i = 0; i < slots; ++i) {
      if (ptx::elect_lane()) ptx::mbarrier_init(barrier(i), 1);
    }
    ptx::fence_mbarrier_init();
    __syncwarp();
#endif
  }
  __device__ __forceinline__ int slots() const {
    return slots_;
  }

  /// Starts to fill the next slot, whose bytes everybody has read; with nothing where `from` is null.
  __device__ __forceinline__ void fill(const uint8_t* from) {
    const uint32_t to = ptx::shared_address(ring_ + filled_ * kBytes);
#if __CUDA_ARCH__ >= 900
    if (from && ptx::elect_lane()) {
      ptx::mbarrier_arrive_expect(barrier(filled_), kBytes);
      ptx::bulk_copy(to, from, kBytes, barrier(filled_), ptx::kEvictFirst);
    }
#else
    if (from) {
#pragma unroll 8
      for (int i = 16 * static_cast<int>(threadIdx.x % 32); i < kBytes; i += 16 * 32)
        ptx::copy_async(to + static_cast<uint32_t>(i), from + i, true);
    }
    ptx::commit_copies();
#endif
    if (++filled_ == slots_) filled_ = 0;
  }

  /// The oldest that was filled, once its bytes are there.
  __device__ __forceinline__ const uint8_t* take() {
#if __CUDA_ARCH__ >= 900
    ptx::mbarrier_wait(barrier(taken_), parity_);
#else
    if (slots_ == 1) {
      ptx::wait_for_copies<0>();
    } else {
      ptx::wait_for_copies<1>();
    }
    __syncwarp();
#endif
    const uint8_t* const slot = ring_ + taken_ * kBytes;
    if (++taken_ == slots_) taken_ = 0, parity_ ^= 1;
    return slot;
  }

 private:
  __device__ __forceinline__ uint32_t barrier(int slot) const {
    return barriers_ + 8 * static_cast<uint32_t>(slot);
  }

  uint8_t* ring_;
  uint32_t barriers_, parity_ = 0;
  int slots_, filled_ = 0, taken_ = 0;
};

/// The pages that a warp sees, in the order of its units: keys and values in slots of their own, each with
/// its scales.
template <KvFormat kFormat, int kDim>
class PageFeed {
 public:
  static constexpr PageLayout kLayout{kFormat, kDim};

  /// `memory`: of all warps of the block.
  __device__ __forceinline__ PageFeed(const AttentionProblem& p, const DecodeGrid& grid, uint8_t* memory)
      : p_(p), grid_(grid), ring_(memory, grid.slots), unit_(p) {
    skip_unseen();
  }

  /// True when the first copies touch no row of this step.
  __device__ __forceinline__ bool starts_early() const { return !unit_.exists() || unit_.page_is_complete(); }
  /// Starts the first copies, of no more than a page.
  __device__ __forceinline__ void start() {
    for (int i = 0; i < ring_.slots(); ++i) fill();
  }
  /// The keys of the next page, or the values behind keys.
  __device__ __forceinline__ const uint8_t* take() { return ring_.take(); }
  /// What was taken has been read.
  __device__ __forceinline__ void release() {
    __syncwarp();
    fill();
  }

 private:
  __device__ __forceinline__ void fill() {
    if (!values_) skip_unseen();
    if (!unit_.exists()) return ring_.fill(nullptr);
    ring_.fill(unit_.block(p_, kLayout.bytes()) + (values_ ? kLayout.values_begin() : 0));
    if (values_) unit_.advance(p_, grid_);
    values_ = !values_;
  }
  __device__ __forceinline__ void skip_unseen() {
    while (unit_.exists() && !unit_.sees_page(p_)) unit_.advance(p_, grid_);
  }

  const AttentionProblem& p_;
  const DecodeGrid& grid_;
  SlotRing<kLayout.values_begin()> ring_;
  DecodeUnit unit_;  ///< whose page is copied next
  bool values_ = false;
};

}  // namespace tessera::cuda
