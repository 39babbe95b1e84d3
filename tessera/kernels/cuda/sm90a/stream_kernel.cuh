// Integer GEMM for few tokens on sm_90: every warp streams its own run of K.
//   acc[N, M] s32 = W[N, K] (8 bits, or 4 bits expanded in registers) x codes[M, K]^T s8;  epilogue as gemm.h
// Tile    32 or 64 outputs x 8 .. 48 tokens a block of threads. Its warps take the 128-input blocks of K in
//         turn, each with a ring of its own that it fills by bulk copies: no warp waits for another before
//         the sums.
// Traffic a block of inputs: rows x 64 bytes of weights (4 bits) in one copy, 128 bytes of codes a token.
// Split   the blocks of a cluster share K further; they send their int32 sums to the block that owns an
//         output.
// Bound   by weight bandwidth: what matters is bytes in flight (64 KB or more an SM) and a short start and
//         end. mma.sync is half as fast as wgmma but has a quarter of its latency.
// Outliers (QUIK) are blocks of K more, of 32 columns, added up in floats of their own.
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/scaling.cuh"
#include "tessera/kernels/cuda/sm90a/launchers.h"
#include "tessera/kernels/cuda/warp_product.cuh"

namespace tessera::cuda {

/// What a launch tells the kernel. The grid is (row tiles or fewer) x split by token tiles.
struct StreamParams {
  GemmProblem problem;
  int input_blocks = 0;           ///< along K
  int outlier_blocks = 0;         ///< of 32 columns, taken like inputs behind the last; never split
  int input_blocks_per_rank = 0;  ///< of a cluster
  int row_tiles = 0;
  int tile_tokens = 0;      ///< tokens of a tile but the last, at most T::kTokens
  int stages = 0;           ///< of each warp's ring
  bool overlapped = false;  ///< kernels before this one may still run
};

/// Sizes of the parts of shared memory.
template <class Weights, int kStrips_, int kTokens_, bool kOutliers_>
struct StreamTile {
  static constexpr bool kOutliers = kOutliers_;
  static constexpr int kStrips = kStrips_, kTokens = kTokens_, kOutputs = kStrips * kStripOutputs;
  static constexpr int kWeightBytes = kStrips * strip_bytes(Weights::kLayout);
  static constexpr int kCodeBytes = kTokens * kBlockInputs;
  static constexpr int kOutlierBytes = kStrips * kOutlierStripBytes;  ///< fits in the place of weights
  static constexpr int kSumBytes = kOutputs * kTokens * 4;
  static constexpr int kMaxThreads = 256, kMinBlocks = kTokens > 32 ? 1 : 2;
  /// Runs of four outputs of one token, which one thread finishes.
  static constexpr int kRunsPerToken = kOutputs / 4, kRuns = kTokens * kRunsPerToken;

  static constexpr int shared_bytes(int warps, int stages) {
    return warps * stages * (kCodeBytes + kWeightBytes + 8) + (warps * (kOutliers ? 2 : 1) + 1) * kSumBytes +
           kTokens * 8 + 8;
  }
};

template <class T>
struct StreamShared {
  uint8_t* base;
  int warps, stages;

  __device__ __forceinline__ uint8_t* codes(int warp, int i) const {
    return base + (warp * stages + i) * T::kCodeBytes;
  }
  __device__ __forceinline__ uint8_t* weights(int warp, int i) const {
    return codes(warps, 0) + (warp * stages + i) * T::kWeightBytes;
  }
  /// Sums of one warp, see sum_index.
  __device__ __forceinline__ int* sums(int warp) const {
    return reinterpret_cast<int*>(weights(warps, 0) + warp * T::kSumBytes);
  }
  /// The same over outliers.
  __device__ __forceinline__ float* bypass(int warp) const {
    return reinterpret_cast<float*>(sums(warps + warp));
  }
  /// What the blocks of the cluster send: [sender][owned runs] of four sums.
  __device__ __forceinline__ int4* inbox() const {
    return reinterpret_cast<int4*>(sums(T::kOutliers ? 2 * warps : warps));
  }
  __device__ __forceinline__ TokenFactors* factors() const {
    return reinterpret_cast<TokenFactors*>(inbox() + T::kSumBytes / 16);
  }
  __device__ __forceinline__ uint32_t received() const { return ptx::shared_address(factors() + T::kTokens); }
  __device__ __forceinline__ uint32_t full(int warp, int i) const {
    return received() + 8 + (warp * stages + i) * 8;
  }
};

/// This block's place and run of K in its cluster, and the tiles of the cluster.
struct StreamWork {
  int split, rank, warp, warps;
  int first, step, tiles;
  int k_begin, k_end;
};

/// A warp's walk over (tile, block of inputs).
struct StreamCursor {
  int tile, k;

  __device__ __forceinline__ explicit StreamCursor(const StreamWork& work)
      : tile(work.k_begin + work.warp < work.k_end ? work.first : work.tiles), k(work.k_begin + work.warp) {}
  __device__ __forceinline__ void advance(const StreamWork& work) {
    k += work.warps;
    if (k < work.k_end) return;
    k = work.k_begin + work.warp;
    tile += work.step;
  }
};

/// Position in a warp's ring.
struct StreamStage {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// --- copies --------------------------------------------------------------------------------------------

/// Announces a stage and fetches its weights.
template <class T>
__device__ __forceinline__ void stream_weights(const StreamParams& p, const StreamShared<T>& shared, int warp,
                                               int stage, StreamCursor at) {
  constexpr int kTilesPerBlock = kBlockOutputs / T::kOutputs;
  const int64_t block = static_cast<int64_t>(at.tile / kTilesPerBlock) * p.input_blocks + at.k;
  const uint32_t full = shared.full(warp, stage);
  if (!ptx::elect_lane()) return;
  if (T::kOutliers && at.k >= p.input_blocks) {
    const int64_t outlier_block =
        static_cast<int64_t>(at.tile / kTilesPerBlock) * p.outlier_blocks + at.k - p.input_blocks;
    ptx::mbarrier_arrive_expect(full, T::kOutlierBytes + p.tile_tokens * 2 * kOutlierColumns);
    ptx::bulk_copy(ptx::shared_address(shared.weights(warp, stage)),
                   static_cast<const uint8_t*>(p.problem.outliers.weights) +
                       (outlier_block * kTilesPerBlock + at.tile % kTilesPerBlock) * T::kOutlierBytes,
                   T::kOutlierBytes, full, gridDim.y == 1 ? ptx::kEvictFirst : ptx::kEvictLast);
    return;
  }
  ptx::mbarrier_arrive_expect(full, T::kWeightBytes + p.tile_tokens * kBlockInputs);
  ptx::bulk_copy(ptx::shared_address(shared.weights(warp, stage)),
                 static_cast<const uint8_t*>(p.problem.weights.blocks) +
                     (block * kTilesPerBlock + at.tile % kTilesPerBlock) * T::kWeightBytes,
                 T::kWeightBytes, full, gridDim.y == 1 ? ptx::kEvictFirst : ptx::kEvictLast);
}

/// Fetches a stage's codes. Rows beyond the tile's tokens stay what they are: they reach only sums that
/// nobody stores.
template <class T>
__device__ __forceinline__ void stream_codes(const TensorMaps& maps, const StreamParams& p,
                                             const StreamShared<T>& shared, int warp, int stage,
                                             StreamCursor at) {
  if (!ptx::elect_lane()) return;
  const bool outliers = T::kOutliers && at.k >= p.input_blocks;
  ptx::tensor_copy(ptx::shared_address(shared.codes(warp, stage)), outliers ? &maps.outliers : &maps.codes,
                   outliers ? (at.k - p.input_blocks) * kOutlierColumns : at.k * kBlockInputs,
                   static_cast<int>(blockIdx.y) * p.tile_tokens, shared.full(warp, stage), ptx::kEvictLast);
}

// --- end of a tile -------------------------------------------------------------------------------------

/// Sums of a run of four outputs over the block's warps, whose sums begin at `first`.
template <class T, class Four>
__device__ __forceinline__ Four sum_of_warps(const StreamShared<T>& shared, const Four* first, int run) {
  const int at = sum_index<T::kOutputs>(run / T::kRunsPerToken, run % T::kRunsPerToken * 4) / 4;
  Four sum = first[at];
#pragma unroll 4
  for (int warp = 1; warp < shared.warps; ++warp) add(sum, first[warp * (T::kSumBytes / 16) + at]);
  return sum;
}

template <class T>
__device__ __forceinline__ int4 integer_sum(const StreamShared<T>& shared, int run) {
  return sum_of_warps(shared, reinterpret_cast<const int4*>(shared.sums(0)), run);
}

/// Block r of the cluster owns the runs r, r + split, ...; everybody sends it theirs.
template <class T>
__device__ __forceinline__ void exchange_sums(const StreamShared<T>& shared, const StreamWork& work, int runs,
                                              uint32_t parity) {
  const int capacity = T::kRuns / work.split;
  if (threadIdx.x == 0) {
    const int owned = (runs - work.rank + work.split - 1) / work.split;
    ptx::mbarrier_arrive_expect(shared.received(), work.split * owned * 16);
  }
  for (int run = static_cast<int>(threadIdx.x); run < runs; run += static_cast<int>(blockDim.x)) {
    const int4 sum = integer_sum(shared, run);
    const int owner = run % work.split, slot = work.rank * capacity + run / work.split;
    ptx::store_remote(ptx::map_shared(ptx::shared_address(shared.inbox() + slot), owner), sum.x, sum.y, sum.z,
                      sum.w, ptx::map_shared(shared.received(), owner));
  }
  ptx::mbarrier_wait(shared.received(), parity);
}

template <class Weights, class T>
__device__ __forceinline__ void finish_tile(const StreamParams& p, const StreamShared<T>& shared,
                                            const StreamWork& work, const ColumnRun& columns,
                                            uint32_t parity) {
  const int64_t first_token = static_cast<int64_t>(blockIdx.y) * p.tile_tokens;
  const int runs = static_cast<int>(min(p.problem.m - first_token, static_cast<int64_t>(p.tile_tokens))) *
                   T::kRunsPerToken;
  if (work.split > 1) exchange_sums(shared, work, runs, parity);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i * work.split + work.rank < runs;
       i += static_cast<int>(blockDim.x)) {
    const int run = i * work.split + work.rank;
    int4 sum;
    if (work.split == 1) {
      sum = integer_sum(shared, run);
    } else {
      const int capacity = T::kRuns / work.split;
      sum = shared.inbox()[i];
      for (int peer = 1; peer < work.split; ++peer) add(sum, shared.inbox()[peer * capacity + i]);
    }
    const int token = run / T::kRunsPerToken;
    const TokenFactors factors = shared.factors()[token];
    if constexpr (T::kOutliers) {
      const float4 bypass = sum_of_warps(shared, reinterpret_cast<const float4*>(shared.bypass(0)), run);
      const float values[4] = {bypass.x, bypass.y, bypass.z, bypass.w};
      finish_run<Weights::kShift>(p.problem, columns, sum, factors, first_token + token, values);
    } else {
      finish_run<Weights::kShift>(p.problem, columns, sum, factors, first_token + token);
    }
  }
}

// --- kernel --------------------------------------------------------------------------------------------

/// Constants of the four outputs that this thread finishes of every token.
template <class T>
__device__ __forceinline__ ColumnRun columns_of(const StreamParams& p, const StreamWork& work, int tile) {
  const int run = (static_cast<int>(threadIdx.x) * work.split + work.rank) % T::kRunsPerToken;
  return ColumnRun(p.problem, static_cast<int64_t>(tile) * T::kOutputs + 4 * run);
}

/// Starts the first copies of a warp, of weights alone while the producers of codes may still run. Returns
/// where the copies go on. Codes go first when they can: what is asked for later arrives behind all the
/// weights.
template <class T>
__device__ __forceinline__ StreamCursor fill_ring(const TensorMaps& maps, const StreamParams& p,
                                                  const StreamShared<T>& shared, const StreamWork& work) {
#pragma unroll 1
  for (int i = 0; i < p.stages; ++i) {
    if (ptx::elect_lane()) ptx::mbarrier_init(shared.full(work.warp, i), 1);
  }
  ptx::fence_mbarrier_init();
  __syncwarp();
  StreamCursor at(work);
#pragma unroll 1
  for (int i = 0; i < p.stages && at.tile < work.tiles; ++i, at.advance(work)) {
    if (!p.overlapped) stream_codes(maps, p, shared, work.warp, i, at);
    stream_weights(p, shared, work.warp, i, at);
  }
  return at;
}

/// The codes that fill_ring() has left out.
template <class T>
__device__ __forceinline__ void fill_codes(const TensorMaps& maps, const StreamParams& p,
                                           const StreamShared<T>& shared, const StreamWork& work) {
  StreamCursor at(work);
#pragma unroll 1
  for (int i = 0; i < p.stages && at.tile < work.tiles; ++i, at.advance(work)) {
    stream_codes(maps, p, shared, work.warp, i, at);
  }
}

/// Multiplies this warp's blocks of inputs of one tile, and fetches others in their place.
template <class Weights, class T>
__device__ __forceinline__ void accumulate_run(const TensorMaps& maps, const StreamParams& p,
                                               const StreamShared<T>& shared, const StreamWork& work,
                                               int lane, StreamStage& ring, StreamCursor& fetch,
                                               WarpAccumulators<T::kStrips, T::kTokens / 8>& acc) {
  const int warp = work.warp;
#pragma unroll 1
  for (int k = work.k_begin + warp; k < work.k_end; k += work.warps) {
    ptx::mbarrier_wait(shared.full(warp, ring.stage), ring.parity);
    const uint8_t* weights = shared.weights(warp, ring.stage);
    const uint32_t codes = ptx::shared_address(shared.codes(warp, ring.stage));
    if (!T::kOutliers || k < p.input_blocks) {
      multiply_block<Weights>(weights, codes, lane, acc.integer);
    } else {
      multiply_narrow_block<OutlierWeights>(weights, codes, lane, acc.bypass);
    }
    __syncwarp();
    if (fetch.tile < work.tiles) {
      stream_weights(p, shared, warp, ring.stage, fetch);
      stream_codes(maps, p, shared, warp, ring.stage, fetch);
      fetch.advance(work);
    }
    ring.advance(p.stages);
  }
}

/// The tiles of a cluster. `columns` are the constants of the first, `factors` those of this thread's token.
template <class Weights, class T>
__device__ __forceinline__ void stream_tiles(const TensorMaps& maps, const StreamParams& p,
                                             const StreamShared<T>& shared, const StreamWork& work, int lane,
                                             StreamCursor fetch, ColumnRun columns, TokenFactors factors) {
  StreamStage ring;
  uint32_t round = 0;
#pragma unroll 1
  for (int tile = work.first; tile < work.tiles; tile += work.step, ++round) {
    WarpAccumulators<T::kStrips, T::kTokens / 8> acc;
    accumulate_run<Weights, T>(maps, p, shared, work, lane, ring, fetch, acc);
    if (round > 0) {
      columns = columns_of<T>(p, work, tile);
      if (work.split > 1) ptx::cluster_arrive();
      __syncthreads();  // the sums before have been read
    } else if (threadIdx.x < T::kTokens) {
      shared.factors()[threadIdx.x] = factors;
    }
    store_sums<T::kOutputs>(shared.sums(work.warp), 0, 0, lane, acc.integer);
    if constexpr (T::kOutliers) store_sums<T::kOutputs>(shared.bypass(work.warp), 0, 0, lane, acc.bypass);
    if (work.split > 1) ptx::cluster_wait();  // everybody has started, or read the inbox
    __syncthreads();
    finish_tile<Weights, T>(p, shared, work, columns, round & 1);
  }
}

template <class Weights, class T>
__global__ void __launch_bounds__(T::kMaxThreads, T::kMinBlocks)
    stream_kernel(const __grid_constant__ TensorMaps maps, const __grid_constant__ StreamParams p) {
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int split = static_cast<int>(ptx::cluster_size()), rank = static_cast<int>(ptx::cluster_rank());
  const StreamWork work{split,
                        rank,
                        warp,
                        static_cast<int>(blockDim.x) / 32,
                        static_cast<int>(ptx::cluster_index()),
                        static_cast<int>(ptx::cluster_count()),
                        p.row_tiles,
                        rank * p.input_blocks_per_rank,
                        min((rank + 1) * p.input_blocks_per_rank, p.input_blocks + p.outlier_blocks)};
  const StreamShared<T> shared{shared_bytes, work.warps, p.stages};
  const StreamCursor fetch = fill_ring(maps, p, shared, work);
  const ColumnRun columns = columns_of<T>(p, work, work.first);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(shared.received(), 1);
    ptx::fence_mbarrier_init();
  }
  __syncwarp();
  if (split > 1) ptx::cluster_arrive_relaxed();
  ptx::wait_for_predecessors();
  if (p.overlapped) fill_codes(maps, p, shared, work);
  ptx::launch_dependents();  // only now: two kernels at once, not three
  const int64_t token = static_cast<int64_t>(blockIdx.y) * p.tile_tokens + threadIdx.x;
  TokenFactors factors;
  if (threadIdx.x < T::kTokens && token < p.problem.m) factors = load_token(p.problem, token);
  stream_tiles<Weights>(maps, p, shared, work, lane, fetch, columns, factors);
}

}  // namespace tessera::cuda
