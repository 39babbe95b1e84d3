// Integer GEMM for sm_90a: wgmma m64nNk32 s8 with the weights as the register operand.
//   acc[N, M] s32 = W[N, K] (8 bits, or 4 bits expanded in registers) x codes[M, K]^T s8;  epilogue as gemm.h
// Tile    128 or 256 outputs x 8..128 tokens x 128 inputs a stage; two consumer warpgroups of 64 or 128
// outputs
//         each, one producer. Any M, N; K a multiple of 16.
// Traffic a stage: tokens x 128 bytes of codes by tensor copy (128-byte swizzle, out-of-range zeros), rows x
// 64
//         bytes of weights (4 bits; groups + 2 bytes a group and row) by bulk copies of whole blocks.
//         Weights are read once per `tokens` rows of the input.
// Budget  accumulators: (rows / 128) (tokens / 2) registers a thread, 16 a 64-row block for operands; shared
// memory:
//         the ring of stages and 512 bytes a token for the exchange of accumulators.
// Hiding  a consumer issues a stage's products as it expands, and reads the next stage while they run; the
// other
//         warpgroup fills what remains.
// Split   the blocks of a cluster take a run of K each. They send their int32 sums to the block that owns a
// group of
//         8 tokens, in fragment order through the cluster window; the owner adds them to its registers: exact
//         in any order, no global workspace, no atomics, no fences.
// Bound   by weight bandwidth up to about 100 tokens, then by L2 traffic (M <= 256), then by the tensor
// cores. Source  QQQ (weights at rest), DGQ (exact expansion), LiquidGEMM (swapped operands).
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/sm90a/epilogue.cuh"
#include "tessera/kernels/cuda/sm90a/expand.cuh"
#include "tessera/kernels/cuda/sm90a/tile.cuh"
#include "tessera/kernels/cuda/sm90a/wgmma.cuh"

namespace tessera::cuda {

/// Position in the ring of stages.
template <int kStages>
struct RingCursor {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// The output tiles of a cluster, its size (the split) and this block's place and run of K in it.
struct WorkRange {
  int split, rank;
  int first, step, end;  ///< tiles
  int k_begin, k_end;    ///< input blocks
};

__device__ __forceinline__ WorkRange work_range(const GemmParams& p) {
  const int split = static_cast<int>(ptx::cluster_size()), rank = static_cast<int>(ptx::cluster_rank());
  return {split,
          rank,
          static_cast<int>(blockIdx.x) / split,
          static_cast<int>(gridDim.x) / split,
          p.token_tiles * p.row_tiles,
          p.input_blocks * rank / split,
          p.input_blocks * (rank + 1) / split};
}

/// Tiles are numbered tokens first within bands of 16 token tiles: blocks that run together share weights and
/// the codes of a band, which stays in L2.
struct TileIndex {
  int token, row;
};
__device__ __forceinline__ TileIndex tile_at(const GemmParams& p, int index) {
  constexpr int kBand = 16;
  const int band = index / (kBand * p.row_tiles), within = index - band * kBand * p.row_tiles;
  const int height = min(kBand, p.token_tiles - band * kBand);
  return {band * kBand + within % height, within / height};
}

// --- producer ------------------------------------------------------------------------------------------

/// Announces a stage and fetches its weights. Row blocks beyond N are left out: nothing of them is stored.
template <class Weights, class T>
__device__ __forceinline__ void fetch_weights(const GemmParams& p, const SharedMemory<T>& shared, int stage,
                                              TileIndex tile, int k) {
  constexpr int kTileBlocks = kConsumerGroups * T::kRowBlocks;
  const auto* blocks = static_cast<const uint8_t*>(p.problem.weights.blocks);
  const int first = tile.row * kTileBlocks;
  const int count = min(kTileBlocks, static_cast<int>(ceil_div(p.problem.weights.n, kBlockRows)) - first);
  ptx::mbarrier_arrive_expect(shared.full(stage), T::kCodeBytes + count * T::kBlockBytes);
  const uint32_t to = ptx::shared_address(shared.stage(stage)) + T::kCodeBytes;
  for (int i = 0; i < count; ++i) {
    const int64_t block = static_cast<int64_t>(first + i) * p.input_blocks + k;
    ptx::bulk_copy(to + i * T::kBlockBytes, blocks + block * T::kBlockBytes, T::kBlockBytes,
                   shared.full(stage), p.token_tiles == 1 ? ptx::kEvictFirst : ptx::kEvictLast);
  }
}

template <class T>
__device__ __forceinline__ void fetch_codes(const CUtensorMap* map, const SharedMemory<T>& shared, int stage,
                                            TileIndex tile, int k) {
  ptx::tensor_copy(ptx::shared_address(shared.stage(stage)), map, k * kBlockInputs, tile.token * T::kTokens,
                   shared.full(stage), ptx::kEvictLast);
}

/// Fills the ring for the first time, a lane a stage: weights at once, codes when the kernels that produce
/// them are done. Returns the number of stages filled.
template <class Weights, class T>
__device__ __forceinline__ int fill_ring(const CUtensorMap* map, const GemmParams& p,
                                         const SharedMemory<T>& shared, const WorkRange& work, int lane) {
  const TileIndex tile = tile_at(p, work.first);
  const int count = min(T::kStages, work.k_end - work.k_begin);
  if (lane < count) {
    fetch_weights<Weights>(p, shared, lane, tile, work.k_begin + lane);
    ptx::wait_for_predecessors();
    fetch_codes(map, shared, lane, tile, work.k_begin + lane);
  }
  __syncwarp();
  return count;
}

/// Streams what follows the first `filled` stages. One thread does it all.
template <class Weights, class T>
__device__ __forceinline__ void produce(const CUtensorMap* map, const GemmParams& p,
                                        const SharedMemory<T>& shared, const WorkRange& work, int filled) {
  RingCursor<T::kStages> ring{filled % T::kStages, filled == T::kStages ? 1u : 0u};
  int k = work.k_begin + filled;
#pragma unroll 1
  for (int index = work.first; index < work.end; index += work.step, k = work.k_begin) {
    const TileIndex tile = tile_at(p, index);
#pragma unroll 1
    for (; k < work.k_end; ++k, ring.advance()) {
      ptx::mbarrier_wait(shared.empty(ring.stage), ring.parity ^ 1);
      fetch_weights<Weights>(p, shared, ring.stage, tile, k);
      fetch_codes(map, shared, ring.stage, tile, k);
    }
  }
}

// --- consumers -----------------------------------------------------------------------------------------

template <class T>
using Accumulators = int[T::kRowBlocks][T::kChains][T::kTokens / 2];

/// What a lane keeps of a stage's weights before expansion: halves of 64 inputs by 64-row blocks.
template <class Weights, class T>
struct RawStage {
  typename Weights::Raw part[2][T::kRowBlocks];

  __device__ __forceinline__ void load(const SharedMemory<T>& shared, int stage, const Consumer& me) {
    const uint8_t* blocks = shared.stage(stage) + T::kCodeBytes + me.group * T::kRowBlocks * T::kBlockBytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < T::kRowBlocks; ++j) {
        part[half][j] = Weights::load(blocks + j * T::kBlockBytes, half, me.warp, me.lane);
      }
    }
  }
};

/// Registers that wgmma in flight read.
template <class T>
using Fragments = uint32_t[2][T::kRowBlocks][2][4];

/// Expands a stage's weights and issues its products, so that each expansion hides behind the products
/// before.
template <class Weights, class T>
__device__ __forceinline__ void issue_stage(const RawStage<Weights, T>& raw, uint32_t codes_address,
                                            bool accumulate, int never, Fragments<T>& fragment,
                                            Accumulators<T>& acc) {
  const uint64_t codes = tile_descriptor(codes_address);
  constexpr int kStep = 32 >> 4;  // columns in units of the descriptor
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < T::kRowBlocks; ++j) {
      uint32_t(&a)[2][4] = fragment[half][j];
      Weights::expand(raw.part[half][j], never, a);
      pin_registers(a);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int step = 2 * half + i;
        wgmma<T::kTokens>(acc[j][step % T::kChains], a[i], codes + step * kStep,
                          step >= T::kChains || accumulate);
      }
      wgmma_commit();
    }
  }
}

/// Waits for the products in flight.
template <class T>
__device__ __forceinline__ void finish_stage(const Fragments<T>& fragment, int never) {
  wgmma_wait<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < T::kRowBlocks; ++j) keep_registers(fragment[half][j], never);
  }
}

/// Adds up one output tile's run of K. The next stage is read while the products of this one run.
template <class Weights, class T>
__device__ __forceinline__ void accumulate_tile(const SharedMemory<T>& shared, const WorkRange& work,
                                                const Consumer& me, int never, RingCursor<T::kStages>& ring,
                                                Accumulators<T>& acc) {
  RawStage<Weights, T> raw;
  ptx::mbarrier_wait(shared.full(ring.stage), ring.parity);
  raw.load(shared, ring.stage, me);
#pragma unroll 1
  for (int k = work.k_begin; k < work.k_end; ++k) {
    Fragments<T> fragment;
    const int stage = ring.stage;
    issue_stage(raw, ptx::shared_address(shared.stage(stage)), k > work.k_begin, never, fragment, acc);
    ring.advance();
    if (k + 1 < work.k_end) {
      ptx::mbarrier_wait(shared.full(ring.stage), ring.parity);
      raw.load(shared, ring.stage, me);
    }
    finish_stage<T>(fragment, never);
    if (me.lane == 0) ptx::mbarrier_arrive(shared.empty(stage));
  }
#pragma unroll
  for (int j = 0; j < T::kRowBlocks; ++j) {
#pragma unroll
    for (int i = 0; i < (T::kChains - 1) * T::kTokens / 2; ++i) {
      acc[j][0][i % (T::kTokens / 2)] += acc[j][1 + i / (T::kTokens / 2)][i % (T::kTokens / 2)];
    }
  }
}

template <class Weights, class T>
__device__ __forceinline__ void consume(const GemmParams& p, const SharedMemory<T>& shared,
                                        const WorkRange& work, const Consumer& me) {
  const Ownership<T> own(work.split, work.rank);
  RingCursor<T::kStages> ring;
  uint32_t round = 0;
#pragma unroll 1
  for (int index = work.first; index < work.end; index += work.step) {
    const TileIndex tile = tile_at(p, index);
    const int64_t first_row = static_cast<int64_t>(tile.row) * T::kRows;
    const int64_t first_token = static_cast<int64_t>(tile.token) * T::kTokens;
    prefetch_columns<T>(p.problem.weights, first_row, me);
    const TokenFactors factors = load_factors<T>(p.problem, first_token, me);
    Accumulators<T> acc;
    accumulate_tile<Weights, T>(shared, work, me, p.never, ring, acc);
    ptx::group_sync(1 + me.group);  // everybody has finished the tile before
    store_factors(shared, me, factors);
#pragma unroll
    for (int j = 0; j < T::kRowBlocks; ++j, ++round) {
      if (own.split > 1) {
        send_sums(shared, own, me, round, acc[j][0]);
        receive_sums(shared, own, me, round, acc[j][0]);
      }
      if (j > 0) ptx::group_sync(1 + me.group);  // everybody has read the slots
      transpose(shared, own, me, acc[j][0]);
      ptx::group_sync(1 + me.group);
      const int64_t row = first_row + (me.group * T::kRowBlocks + j) * kBlockRows;
      finish_share<Weights::kShift>(p.problem, shared, own, me, row, first_token);
    }
  }
  // Shared memory must outlive what the cluster sends.
  if (own.receivers() > 0) ptx::mbarrier_wait(shared.read(me.group), (round - 1) & 1);
}

/// By one warp, a lane a barrier.
template <class T>
__device__ __forceinline__ void init_barriers(const SharedMemory<T>& shared, const Ownership<T>& own,
                                              int lane) {
  constexpr int kWarps = 4;
  if (lane < T::kStages) {
    ptx::mbarrier_init(shared.full(lane), 1);
    ptx::mbarrier_init(shared.empty(lane), kConsumerGroups * kWarps);
  }
  if (lane < kConsumerGroups) {
    ptx::mbarrier_init(shared.received(lane), 1);
    ptx::mbarrier_init(shared.read(lane), kWarps * max(own.receivers(), 1));
  }
  ptx::fence_mbarrier_init();
  __syncwarp();
}

template <class Weights, int kRows, int kTokens>
__global__ void __launch_bounds__(kThreads, (Tile<Weights, kRows, kTokens>::kBlocksPerSm))
    gemm_kernel(const __grid_constant__ CUtensorMap codes, const __grid_constant__ GemmParams params) {
  using T = Tile<Weights, kRows, kTokens>;
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const SharedMemory<T> shared{shared_bytes};
  // Through a shuffle, so that the compiler knows the warp index to be uniform.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const WorkRange work = work_range(params);

  const bool producer = warp == 4 * kConsumerGroups;

  int filled = 0;
  if (producer) {
    if (lane == 0) ptx::prefetch_tensor_map(&codes);
    init_barriers(shared, Ownership<T>(work.split, work.rank), lane);
    filled = fill_ring<Weights>(&codes, params, shared, work, lane);
  }
  __syncthreads();
  ptx::launch_dependents();
  if (work.split > 1) ptx::cluster_sync();
  if (warp >= 4 * kConsumerGroups) {
    ptx::release_registers<T::kProducerRegisters>();
    if (producer && lane == 0) produce<Weights>(&codes, params, shared, work, filled);
  } else {
    ptx::claim_registers<T::kConsumerRegisters>();
    ptx::wait_for_predecessors();
    consume<Weights>(params, shared, work, {warp / 4, warp % 4, lane});
  }
}

}  // namespace tessera::cuda
