// What a warpgroup of the wgmma kernel does with its stages: weights are read, expanded and multiplied.
#pragma once

#include "tessera/kernels/cuda/expand.cuh"
#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/sm90a/tile.cuh"
#include "tessera/kernels/cuda/sm90a/wgmma.cuh"

namespace tessera::cuda {

/// Position in the ring of stages.
template <int kStages>
struct RingCursor {
  int stage = 0;
  uint32_t parity = 0;
  /// By at most kStages.
  __device__ __forceinline__ void advance(int count = 1) {
    stage += count;
    if (stage >= kStages) {
      stage -= kStages;
      parity ^= 1;
    }
  }
  /// By any number.
  __device__ __forceinline__ void skip(int count) {
    const int total = stage + count;
    stage = total % kStages;
    parity ^= total / kStages & 1;
  }
};

/// The output tiles of a cluster, and this block's place and run of K in it.
struct WorkRange {
  int rank;
  int first, step, end;  ///< tiles
  int k_begin, k_end;    ///< input blocks
};

__device__ __forceinline__ WorkRange work_range(const GemmParams& p) {
  const int rank = static_cast<int>(blockIdx.x) & (p.split() - 1);
  return {rank,
          static_cast<int>(blockIdx.x) >> p.split_log2,
          static_cast<int>(gridDim.x) >> p.split_log2,
          p.order.token_tiles * p.order.row_tiles,
          p.input_blocks * rank >> p.split_log2,
          p.input_blocks * (rank + 1) >> p.split_log2};
}

template <class T>
using Accumulators = int[T::kRowBlocks][T::kChains][T::kTokens / 2];

/// A lane's weights of 64 inputs before expansion, and the operands of their two products, for each 64-row
/// block.
template <class Weights, class T>
using RawHalf = typename Weights::Raw[T::kRowBlocks];
template <class T>
using Operands = uint32_t[T::kRowBlocks][2][4];

template <class Weights, class T>
__device__ __forceinline__ void load_half(const SharedMemory<T>& shared, int stage, int half,
                                          const Consumer& me, RawHalf<Weights, T>& raw) {
  const int first_block = T::kInputGroups > 1 ? 0 : me.group * T::kRowBlocks;
  const uint8_t* strips =
      shared.stage(stage) + T::kCodeBytes + first_block * T::kBlockBytes + me.warp * T::kBlockBytes / 4;
#pragma unroll
  for (int j = 0; j < T::kRowBlocks; ++j) {
    raw[j] = Weights::load(strips + j * T::kBlockBytes, half, me.lane);
  }
}

template <class Weights, class T>
__device__ __forceinline__ void expand_half(const RawHalf<Weights, T>& raw, int never,
                                            Operands<T>& operands) {
#pragma unroll
  for (int i = 0; i < 2 * T::kRowBlocks; ++i) {
    Weights::expand(raw[i / 2], i % 2, never, operands[i / 2][i % 2]);
    pin_registers(operands[i / 2][i % 2]);
  }
}

/// Issues the products of one half of a stage.
template <class T>
__device__ __forceinline__ void issue_half(const Operands<T>& operands, uint64_t codes, int half,
                                           Accumulators<T>& acc) {
  constexpr int kStep = 32 >> 4;  // columns in units of the descriptor
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < 2 * T::kRowBlocks; ++i) {
    const int j = i / 2, step = 2 * half + i % 2;
    wgmma<T::kTokens>(acc[j][step % T::kChains], operands[j][i % 2], codes + step * kStep);
  }
  wgmma_commit();
}

template <class T>
__device__ __forceinline__ void keep_operands(const Operands<T>& operands, int never) {
#pragma unroll
  for (int i = 0; i < 2 * T::kRowBlocks; ++i) keep_registers(operands[i / 2][i % 2], never);
}

/// Issues the products of a stage, whose first half is expanded in `first` and whose second half is read in
/// `high`. While they run, the second half and the first half of the next stage (into `next`) are expanded.
/// What bounds a warpgroup is the latency of this chain, not the number of its instructions: so the next
/// stage's barrier is asked and its weights are read long before they are needed.
template <class Weights, class T>
__device__ __forceinline__ void run_stage(const SharedMemory<T>& shared, const Consumer& me, int never,
                                          bool last, RingCursor<T::kStages>& ring, RawHalf<Weights, T>& high,
                                          const Operands<T>& first, Operands<T>& next, Accumulators<T>& acc) {
  Operands<T> second;
  RawHalf<Weights, T> low;
  const int stage = ring.stage;
  const uint64_t codes = tile_descriptor(ptx::shared_address(shared.stage(stage)));
  issue_half<T>(first, codes, 0, acc);
  ring.advance(T::kInputGroups);
  const bool ready = !last && ptx::mbarrier_test(shared.full(ring.stage), ring.parity);
  expand_half<Weights, T>(high, never, second);
  if (ready) {
    load_half<Weights>(shared, ring.stage, 0, me, low);
    load_half<Weights>(shared, ring.stage, 1, me, high);
  }
  issue_half<T>(second, codes, 1, acc);
  if (!ready && !last) {
    ptx::mbarrier_wait(shared.full(ring.stage), ring.parity);
    load_half<Weights>(shared, ring.stage, 0, me, low);
    load_half<Weights>(shared, ring.stage, 1, me, high);
  }
  if (!last) expand_half<Weights, T>(low, never, next);
  wgmma_wait<0>();
  keep_operands<T>(first, never);
  keep_operands<T>(second, never);
  __syncwarp();
  if (me.lane == 0) ptx::mbarrier_arrive(shared.empty(stage));
}

/// Adds up this warpgroup's part of an output tile's run of K. Two sets of operands take turns, so that none
/// is copied while products read it (see keep_registers). Sums begin at 0 and stages are counted down, so
/// that no product waits for a comparison.
template <class Weights, class T>
__device__ __forceinline__ void accumulate_tile(const SharedMemory<T>& shared, const WorkRange& work,
                                                const Consumer& me, int never, RingCursor<T::kStages>& ring,
                                                Accumulators<T>& acc) {
  constexpr int kStep = T::kInputGroups;
  const RingCursor<T::kStages> start = ring;
  const int first = kStep > 1 ? me.group : 0;
#pragma unroll
  for (auto& chains : acc) {
#pragma unroll
    for (auto& sums : chains) {
#pragma unroll
      for (int& sum : sums) sum = 0;
    }
  }
  Operands<T> even, odd;
  RawHalf<Weights, T> low, high;
  ring.advance(first);
  ptx::mbarrier_wait(shared.full(ring.stage), ring.parity);
  load_half<Weights>(shared, ring.stage, 0, me, low);
  load_half<Weights>(shared, ring.stage, 1, me, high);
  expand_half<Weights, T>(low, never, even);
#pragma unroll 1
  for (int left = (work.k_end - work.k_begin - first + kStep - 1) / kStep;; left -= 2) {
    run_stage<Weights, T>(shared, me, never, left == 1, ring, high, even, odd, acc);
    if (left == 1) break;
    run_stage<Weights, T>(shared, me, never, left == 2, ring, high, odd, even, acc);
    if (left == 2) break;
  }
  if (kStep > 1) {
    ring = start;
    ring.skip(work.k_end - work.k_begin);
  }
#pragma unroll
  for (int j = 0; j < T::kRowBlocks; ++j) {
#pragma unroll
    for (int i = 0; i < (T::kChains - 1) * T::kTokens / 2; ++i) {
      acc[j][0][i % (T::kTokens / 2)] += acc[j][1 + i / (T::kTokens / 2)][i % (T::kTokens / 2)];
    }
  }
}

}  // namespace tessera::cuda
