// Integer GEMM for sm_90a: wgmma m64nNk32 s8 with the weights as the register operand.
//   acc[N, M] s32 = W[N, K] (8 bits, or 4 bits expanded in registers) x codes[M, K]^T s8;  epilogue as gemm.h
//
// Tile    64, 128, 192 or 256 outputs x 32 .. 256 tokens x 128 inputs a stage; two or three warpgroups
//         that multiply and one that copies. Any M, N; K a multiple of 16.
// Traffic a stage: tokens x 128 bytes of codes by tensor copy (128-byte swizzle, out-of-range zeros), rows x
//         64 bytes of weights (4 bits; groups + 2 bytes a group and row) by bulk copies of whole blocks.
//         Weights are read once per `tokens` rows of the input.
// Budget  accumulators: tokens / 2 registers a thread and 64-row block, 24 for operands, 4 to 16 for weights
//         before expansion; shared memory: the ring of stages and up to 256 bytes a token and warpgroup for
//         sums and outputs on their way.
// Hiding  while a stage's products run, a warpgroup expands its second half and the first of the next; the
//         other warpgroups fill what remains. Outputs of 16 bits leave by tensor copy beside the next tile.
// Split   the blocks of a cluster take a run of K each. They send their int32 sums to the block that owns a
//         group of 8 tokens, in fragment order through the cluster window; the owner adds them to its
//         registers: exact in any order, no global workspace, no atomics, no fences. In tiles of 64 outputs
//         the warpgroups of a block share K, too, and add up through shared memory first.
// Bound   by weight bandwidth up to about 100 tokens, then by L2 traffic (M <= 256), then by the tensor
//         cores; below 20 us also by what passes before the first product and after the last.
// Source  QQQ (weights at rest), DGQ (exact expansion), LiquidGEMM (swapped operands).
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/sm90a/accumulate.cuh"
#include "tessera/kernels/cuda/sm90a/epilogue.cuh"
#include "tessera/kernels/cuda/sm90a/launchers.h"
#include "tessera/kernels/cuda/sm90a/outliers.cuh"
#include "tessera/kernels/cuda/sm90a/tile.cuh"
#include "tessera/kernels/cuda/tile_order.cuh"

namespace tessera::cuda {

// --- start of a block ----------------------------------------------------------------------------------

/// By the consumer warps in turn.
template <class T>
__device__ __forceinline__ void init_barriers(const SharedMemory<T>& shared, int split, int warp) {
  constexpr int kWarps = 4;  // of a group
  if (ptx::elect_lane()) {
#pragma unroll 1
    for (int i = warp; i < T::kStages; i += kWarps * T::kConsumerGroups) {
      ptx::mbarrier_init(shared.full(i), 1);
      ptx::mbarrier_init(shared.empty(i), T::kConsumerGroups / T::kInputGroups * kWarps);
    }
    if (warp < T::kConsumerGroups) {
      ptx::mbarrier_init(shared.received(warp), 1);
      ptx::mbarrier_init(shared.free(warp), kWarps * max(split - 1, 1));
    }
    ptx::fence_mbarrier_init();
  }
  __syncwarp();
}

/// Where all warps of a block meet, and let the next kernel begin.
template <class T>
__device__ __forceinline__ void start_block(const GemmParams& p) {
  constexpr int kBarrier = 15;  // behind those of the warpgroups
  ptx::launch_dependents();
  if (p.split_log2 > 0) ptx::cluster_arrive_relaxed();  // consumers wait before they send
  ptx::group_sync(kBarrier, T::kThreads);
}

// --- producers -----------------------------------------------------------------------------------------

/// The producer warp that copies codes: beside weights only where there are row blocks for all four.
template <class T>
constexpr int kCodesWarp = T::kTileBlocks % 4;

/// What a producer warp copies for a tile: its row block, or the codes from token `first_token` on. In place
/// of row blocks beyond N the last one is copied, of which nothing is stored.
struct ProducerTile {
  const uint8_t *weights, *outliers;
  int first_token;
};

template <class T>
__device__ __forceinline__ ProducerTile producer_tile(const GemmParams& p, int index, int warp) {
  const TileIndex tile = p.order.at(index);
  const int64_t row_block = min(tile.row * T::kTileBlocks + warp, p.row_blocks - 1);
  return {static_cast<const uint8_t*>(p.problem.weights.blocks) + row_block * p.input_blocks * T::kBlockBytes,
          static_cast<const uint8_t*>(p.problem.outliers.weights) +
              row_block * p.outlier_blocks * kOutlierBlockBytes,
          tile.token * p.tile_tokens};
}

/// Copies what warp `warp` brings of the input block k, behind K of the outliers, to a stage of the ring.
template <class T>
__device__ __forceinline__ void copy_stage(const TensorMaps& maps, const GemmParams& p,
                                           const SharedMemory<T>& shared, const ProducerTile& tile, int warp,
                                           int stage, int k, int k_end) {
  const bool outliers = T::kOutliers && k >= k_end;
  const int code_bytes = outliers ? 2 * kOutlierColumns : kBlockInputs;
  const int block_bytes = outliers ? kOutlierBlockBytes : T::kBlockBytes;
  const int block = outliers ? k - k_end : k;
  const uint32_t to = ptx::shared_address(shared.stage(stage)), full = shared.full(stage);
  if (warp == kCodesWarp<T> && ptx::elect_lane()) {
    ptx::mbarrier_arrive_expect(full, p.tile_tokens * code_bytes + T::kTileBlocks * block_bytes);
    ptx::tensor_copy(to, outliers ? &maps.outliers : &maps.codes,
                     block * (outliers ? kOutlierColumns : kBlockInputs), tile.first_token, full,
                     ptx::kEvictLast);
  }
  if (warp < T::kTileBlocks && ptx::elect_lane()) {
    ptx::bulk_copy(to + T::kCodeBytes + warp * T::kBlockBytes,
                   (outliers ? tile.outliers : tile.weights) + static_cast<int64_t>(block) * block_bytes,
                   block_bytes, full, p.order.token_tiles == 1 ? ptx::kEvictFirst : ptx::kEvictLast);
  }
}

/// Streams a block's share of the operands, by four warps, since a warp takes 100 cycles and more a copy:
/// warp w brings the row block w of each stage, and one of them the codes. Codes wait for the kernels that
/// produce them, weights do not. A warp that copies nothing waits for no stage: it could miss the time at
/// which it is empty, and wait for ever. Everybody waits for the first copies, of the given tile: they are
/// issued before the loop is set up.
template <class T>
__device__ __forceinline__ void produce(const TensorMaps& maps, const GemmParams& p,
                                        const SharedMemory<T>& shared, const WorkRange& work, int warp,
                                        ProducerTile tile) {
  static_assert(T::kTileBlocks <= 4);
  if (warp > T::kTileBlocks) return;
  if (warp == kCodesWarp<T> && p.overlapped) ptx::wait_for_predecessors();
  copy_stage(maps, p, shared, tile, warp, 0, work.k_begin, work.k_end);
  const int last = work.k_end + (T::kOutliers ? p.outlier_blocks : 0);
  RingCursor<T::kStages> ring;
  ring.advance();
  bool filled = false;  // at first all stages are empty, and asking takes time
  int k = work.k_begin + 1;
#pragma unroll 1
  for (int index = work.first;;) {
#pragma unroll 1
    for (; k < last; ++k) {
      if (filled) ptx::mbarrier_wait(shared.empty(ring.stage), ring.parity ^ 1);
      copy_stage(maps, p, shared, tile, warp, ring.stage, k, work.k_end);
      ring.advance();
      filled |= ring.stage == 0;
    }
    index += work.step;
    if (index >= work.end) break;
    tile = producer_tile<T>(p, index, warp);
    k = work.k_begin;
  }
}

// --- consumers -----------------------------------------------------------------------------------------

/// 16-bit outputs of a 64-row block, the j-th of this warpgroup, from its sums.
template <class Weights, class T, class Own>
__device__ __forceinline__ void finish_packed(const CUtensorMap* out, const GemmParams& params,
                                              const SharedMemory<T>& shared, const Own& own,
                                              const Consumer& me, const TilePlace& tile, int j,
                                              RingCursor<T::kStages>& ring, GroupSums<Own::kMost>& sums) {
  const GemmProblem& p = params.problem;
  constexpr bool kShared = Own::kBlocks * T::kInputGroups > 1;
  uint8_t* packed = shared.slot(me.group, j * T::kPackedSlots);
  if constexpr (T::kOutliers) {
    pack_with_outliers<Weights::kShift>(p, params.outlier_blocks, shared, own, me, params.never, ring, packed,
                                        sums);
  } else {
    pack_outputs<Weights::kShift>(p, shared, own, me, j, packed, sums);
  }
  if (!kShared) ptx::fence_async_copies();
  ptx::group_sync(1 + me.group);
  if (kShared) {
    store_packed(p, own, me, tile, packed);
  } else if (me.thread() == 0) {
    ptx::tensor_store(out, static_cast<int>(tile.first_row), static_cast<int>(tile.first_token),
                      ptx::shared_address(packed));
  }
}

/// Outputs of any type of a 64-row block, from its sums.
template <class Weights, class T, class Own>
__device__ __forceinline__ void finish_any(const GemmProblem& p, const SharedMemory<T>& shared,
                                           const Own& own, const Consumer& me, const TilePlace& tile,
                                           const GroupSums<Own::kMost>& sums) {
#pragma unroll 1
  for (int first = 0; first < Own::kMost; first += T::kSlots) {
    if (T::kRowBlocks > 1 || first > 0) ptx::group_sync(1 + me.group);
    if (first == 0) {
      transpose<0, T, Own>(shared, me, sums);
    } else {
      transpose<T::kSlots, T, Own>(shared, me, sums);
    }
    ptx::group_sync(1 + me.group);
    finish_share<Weights::kShift>(p, shared, own, me, first, tile);
  }
}

/// From this warpgroup's sums to outputs in device memory, in a cluster of kSplit blocks that share a tile,
/// the `last` or not.
template <class Weights, int kSplit, class T>
__device__ __forceinline__ void finish_tile(const CUtensorMap* out, const GemmParams& p,
                                            const SharedMemory<T>& shared, int rank, const Consumer& me,
                                            TilePlace tile, bool last, uint32_t round,
                                            RingCursor<T::kStages>& ring, Accumulators<T>& acc) {
  static_assert(kSplit == 1 || T::kRowBlocks == 1);
  const Ownership<T, kSplit> own(rank, me.group);
  const bool packs = T::kOutliers || packs_outputs(p.problem);
#pragma unroll
  for (int j = 0; j < T::kRowBlocks; ++j, tile.first_row += kBlockOutputs) {
    GroupSums<Ownership<T, kSplit>::kMost> sums;
    sum_members(shared, own, me, round, acc[j][0], sums);
    if (kSplit * T::kInputGroups > 1) ptx::group_sync(1 + me.group);  // everybody has read the slots
    if (packs) {
      finish_packed<Weights>(out, p, shared, own, me, tile, j, ring, sums);
    } else {
      finish_any<Weights>(p.problem, shared, own, me, tile, sums);
    }
  }
  if (kSplit > 1 && !last) free_slots(shared, own, me);
}

/// The same for the split that the launch has.
template <class Weights, class T>
__device__ __forceinline__ void finish_split(const CUtensorMap* out, const GemmParams& p,
                                             const SharedMemory<T>& shared, int rank, const Consumer& me,
                                             const TilePlace& tile, bool last, uint32_t round,
                                             RingCursor<T::kStages>& ring, Accumulators<T>& acc) {
  const auto finish = [&]<int kSplit>() {
    if constexpr (T::splits(kSplit))
      finish_tile<Weights, kSplit>(out, p, shared, rank, me, tile, last, round, ring, acc);
  };
  switch (p.split_log2) {
    case 0:
      return finish.template operator()<1>();
    case 1:
      return finish.template operator()<2>();
    case 2:
      return finish.template operator()<4>();
    default:
      return finish.template operator()<8>();
  }
}

template <class Weights, class T>
__device__ __forceinline__ void consume(const CUtensorMap* out, const GemmParams& p,
                                        const SharedMemory<T>& shared, const WorkRange& work,
                                        const Consumer& me) {
  RingCursor<T::kStages> ring;
  uint32_t round = 0;
#pragma unroll 1
  for (int index = work.first; index < work.end; index += work.step) {
    const TileIndex tile = p.order.at(index);
    const int64_t first_token = static_cast<int64_t>(tile.token) * p.tile_tokens;
    const int first_block = T::kInputGroups > 1 ? 0 : me.group * T::kRowBlocks;
    const TilePlace place{static_cast<int64_t>(tile.row) * T::kOutputs + first_block * kBlockOutputs,
                          first_token, min(first_token + p.tile_tokens, p.problem.m)};
    if (index != work.first) ptx::group_sync(1 + me.group);  // everybody has finished the tile before
    fetch_constants(p.problem, shared, me, place);
    Accumulators<T> acc;
    accumulate_tile<Weights, T>(shared, work, me, p.never, ring, acc);
    ptx::wait_for_words();
    if (index != work.first && me.thread() == 0) ptx::wait_for_tensor_stores();
    ptx::group_sync(1 + me.group);
    const bool last = index + work.step >= work.end;
    finish_split<Weights>(out, p, shared, work.rank, me, place, last, round, ring, acc);
    ++round;
  }
  // Shared memory must outlive what the copy engine stores.
  if (me.thread() == 0) ptx::wait_for_tensor_stores();
}

template <class Weights, class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    gemm_kernel(const __grid_constant__ TensorMaps maps, const __grid_constant__ GemmParams params) {
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const SharedMemory<T> shared{shared_bytes};
  // Through a shuffle, so that the compiler knows the warp index to be uniform.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const WorkRange work = work_range(params);

  constexpr int kProducerWarp = 4 * T::kConsumerGroups;
  const int producer = warp - kProducerWarp;
  ProducerTile tile{};
  if (producer >= 0) {  // the first copies are prepared while others initialise the barriers
    if (producer == kCodesWarp<T>) ptx::prefetch_tensor_map(&maps.codes);
    tile = producer_tile<T>(params, work.first, producer);
  } else {
    init_barriers(shared, params.split(), warp);
  }
  start_block<T>(params);
  if (producer >= 0) {
    ptx::release_registers<T::kProducerRegisters>();
    produce(maps, params, shared, work, producer, tile);
    if (params.split_log2 > 0) ptx::cluster_wait();
  } else {
    ptx::claim_registers<T::kConsumerRegisters>();
    if (params.overlapped) ptx::wait_for_predecessors();
    consume<Weights>(&maps.out, params, shared, work, {warp / 4, warp % 4, lane});
  }
}

}  // namespace tessera::cuda
