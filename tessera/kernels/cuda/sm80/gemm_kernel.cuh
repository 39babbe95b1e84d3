// Integer GEMM for compute capability 8.0 and later: mma.sync m16n8k32 s8, weights as operand A.
//   acc[N, M] s32 = W[N, K] (8 bits, or 4 bits expanded in registers) x codes[M, K]^T s8;  epilogue as gemm.h
// Tile    a block of eight warps, laid out as outputs x tokens x runs of K: 4 x 2 x 1 for 128 outputs x 128
//         tokens, 2 x 2 x 2 for 64 x 64, 1 x 1 x 8 for 32 x 16. A warp has 32 outputs, so that what it
//         expands serves two token groups or more; warps that share outputs along K fill the device when
//         there are few of them, and add up in shared memory: no second pass, exact in any order.
// Ring    stages of 128 inputs a run of K, brought by cp.async in 16-byte pieces: codes in the 128-byte
//         swizzle for ldmatrix, weights as they lie in memory. One barrier of the block a stage.
// Shared  at most 99 KB, what a block gets on 8.6 and 8.9; 8.0 could hold more.
// Bound   by weight bandwidth for few tokens, by the tensor cores and the issue of ldmatrix and expansion for
//         many.
// Outliers (QUIK) follow the inputs through the same ring, 32 columns where 128 inputs were, into float sums.
#pragma once

#include <algorithm>

#include "tessera/kernels/cuda/scaling.cuh"
#include "tessera/kernels/cuda/tile_order.cuh"
#include "tessera/kernels/cuda/warp_product.cuh"

namespace tessera::cuda::sm80 {

/// Sizes of a tile whose warps have 32 outputs x 8 kGroups tokens each.
template <class Weights, int kRowWarps_, int kTokenWarps_, int kInputWarps_, int kGroups_, bool kOutliers_>
struct Tile {
  static constexpr bool kOutliers = kOutliers_;
  static constexpr int kRowWarps = kRowWarps_, kTokenWarps = kTokenWarps_, kInputWarps = kInputWarps_;
  static constexpr int kStrips = 2, kGroups = kGroups_;
  static constexpr int kWarpRows = kStrips * kStripRows, kWarpTokens = 8 * kGroups;
  static constexpr int kRows = kRowWarps * kWarpRows, kTokens = kTokenWarps * kWarpTokens;
  static constexpr int kThreads = 32 * kRowWarps * kTokenWarps * kInputWarps;
  static constexpr int kStripBytes = strip_bytes(Weights::kLayout);
  /// Of 128 inputs; a stage has kInputWarps of each, codes first.
  static constexpr int kCodeBytes = kTokens * kBlockInputs, kWeightBytes = kRows / kStripRows * kStripBytes;
  static constexpr int kStageBytes = kInputWarps * (kCodeBytes + kWeightBytes);
  static constexpr int kMaxSharedBytes = 99 * 1024, kMaxStages = 4;
  static constexpr int kStages = std::min(kMaxStages, kMaxSharedBytes / kStageBytes);
  static constexpr int kSums = kRows * kTokens;  ///< of one run of K
  static constexpr int kSharedBytes = std::max(kStages * kStageBytes, kInputWarps* kSums * 4);
  static constexpr int kRunsPerToken = kRows / 4;  ///< runs of four outputs, which one thread finishes

  static_assert(kStages >= 2 && kSharedBytes <= kMaxSharedBytes);
  static_assert(kThreads % kRunsPerToken == 0, "a thread keeps its outputs");
};

/// What a launch tells the kernel; one block a tile.
struct Params {
  GemmProblem problem;
  int input_blocks = 0, input_stages = 0;      ///< along K
  int outlier_blocks = 0, outlier_stages = 0;  ///< of 32 columns
  int row_blocks = 0;                          ///< of 64 outputs
  TileOrder order;
};

/// The tile of a block.
struct Origin {
  int64_t row, token;
};

/// Where a warp stands.
struct WarpPlace {
  int lane, row, token, input;  ///< row, token: of the tile; input: which run of K
};

template <class T>
__device__ __forceinline__ WarpPlace warp_place() {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return {static_cast<int>(threadIdx.x) % 32, warp % T::kRowWarps * T::kWarpRows,
          warp / T::kRowWarps % T::kTokenWarps * T::kWarpTokens, warp / (T::kRowWarps * T::kTokenWarps)};
}

/// Copies the codes of blocks of inputs from `block` on; tokens and inputs that do not exist become 0.
template <class T>
__device__ __forceinline__ void copy_codes(const GemmProblem& p, const Origin& at, int block, uint32_t to) {
  constexpr int kChunks = kBlockInputs / 16, kPieces = T::kInputWarps * T::kTokens * kChunks;
#pragma unroll
  for (int i = 0; i < ceil_div(kPieces, T::kThreads); ++i) {
    const int piece = i * T::kThreads + static_cast<int>(threadIdx.x);
    if (kPieces % T::kThreads != 0 && piece >= kPieces) break;
    const int chunk = piece % kChunks, row = piece / kChunks, token = row % T::kTokens;
    const int64_t input = static_cast<int64_t>(block + row / T::kTokens) * kBlockInputs + 16 * chunk;
    const bool live = at.token + token < p.m && input < p.weights.k;
    ptx::copy_async(to + row * kBlockInputs + (chunk ^ token % kChunks) * 16,
                    p.codes + (live ? (at.token + token) * p.codes_stride + input : 0), live);
  }
}

/// Copies the tokens' values of blocks of outliers.
template <class T>
__device__ __forceinline__ void copy_outliers(const Params& p, const Origin& at, int block, uint32_t to) {
  constexpr int kChunks = 2 * kOutlierColumns / 16, kPieces = T::kInputWarps * T::kTokens * kChunks;
  const Outliers& outliers = p.problem.outliers;
#pragma unroll
  for (int i = 0; i < ceil_div(kPieces, T::kThreads); ++i) {
    const int piece = i * T::kThreads + static_cast<int>(threadIdx.x);
    if (kPieces % T::kThreads != 0 && piece >= kPieces) break;
    const int chunk = piece % kChunks, token = piece / kChunks % T::kTokens,
              run = piece / kChunks / T::kTokens;
    const bool live = at.token + token < p.problem.m && block + run < p.outlier_blocks;
    const int64_t index = (at.token + token) * outliers.stride + (block + run) * kOutlierColumns + 8 * chunk;
    ptx::copy_async(to + run * T::kCodeBytes + outlier_offset(token, chunk),
                    static_cast<const uint16_t*>(outliers.x) + (live ? index : 0), live);
  }
}

/// Copies the tile's strips of kInputWarps blocks from `block` of `count` on; those that do not exist become
/// 0.
template <class T, int kStripBytes>
__device__ __forceinline__ void copy_strips(const void* blocks, int row_blocks, int count, const Origin& at,
                                            int block, uint32_t to) {
  constexpr int kPiecesPerRun = T::kRows / kStripRows * kStripBytes / 16;
  constexpr int kPieces = T::kInputWarps * kPiecesPerRun;
  constexpr int kBlockBytes = kBlockRows / kStripRows * kStripBytes;
#pragma unroll
  for (int i = 0; i < ceil_div(kPieces, T::kThreads); ++i) {
    const int piece = i * T::kThreads + static_cast<int>(threadIdx.x);
    if (kPieces % T::kThreads != 0 && piece >= kPieces) break;
    const int run = piece / kPiecesPerRun;
    const int byte = static_cast<int>(at.row / kStripRows) % (kBlockRows / kStripRows) * kStripBytes +
                     piece % kPiecesPerRun * 16;
    const int row_block = static_cast<int>(at.row / kBlockRows) + byte / kBlockBytes;
    const bool live = block + run < count && row_block < row_blocks;
    const int64_t index = static_cast<int64_t>(row_block) * count + block + run;
    ptx::copy_async(
        to + run * T::kWeightBytes + piece % kPiecesPerRun * 16,
        static_cast<const uint8_t*>(blocks) + (live ? index * kBlockBytes + byte % kBlockBytes : 0), live);
  }
}

/// Starts the copies of a stage: of inputs, and of outliers behind them.
template <class T>
__device__ __forceinline__ void copy_stage(const Params& p, const Origin& at, int index, uint32_t ring) {
  constexpr int kCodes = T::kInputWarps * T::kCodeBytes;
  const uint32_t to = ring + index % T::kStages * T::kStageBytes;
  const GemmProblem& problem = p.problem;
  if (index < p.input_stages) {
    const int block = index * T::kInputWarps;
    copy_codes<T>(problem, at, block, to);
    copy_strips<T, T::kStripBytes>(problem.weights.blocks, p.row_blocks, p.input_blocks, at, block,
                                   to + kCodes);
  } else if (T::kOutliers && index < p.input_stages + p.outlier_stages) {
    const int block = (index - p.input_stages) * T::kInputWarps;
    copy_outliers<T>(p, at, block, to);
    copy_strips<T, kOutlierStripBytes>(problem.outliers.weights, p.row_blocks, p.outlier_blocks, at, block,
                                       to + kCodes);
  }
  ptx::commit_copies();  // also when there are none: the wait for a stage counts
}

/// Adds up this warp's run of K, and of the outliers.
template <class Weights, class T>
__device__ __forceinline__ void accumulate_tile(const Params& p, const Origin& at, uint8_t* shared,
                                                const WarpPlace& me,
                                                WarpAccumulators<T::kStrips, T::kGroups>& acc) {
  const int count = p.input_stages + p.outlier_stages, strip = me.row / kStripRows;
  const uint32_t ring = ptx::shared_address(shared);
#pragma unroll 1
  for (int i = 0; i < T::kStages - 1; ++i) copy_stage<T>(p, at, i, ring);
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    ptx::wait_for_copies<T::kStages - 2>();
    __syncthreads();  // everybody's copies are here, and the stage before has been read
    copy_stage<T>(p, at, i + T::kStages - 1, ring);
    const int stage = i % T::kStages * T::kStageBytes;
    const uint8_t* strips = shared + stage + T::kInputWarps * T::kCodeBytes + me.input * T::kWeightBytes;
    const uint32_t codes = ring + stage + me.input * T::kCodeBytes;
    if (!T::kOutliers || i < p.input_stages) {
      multiply_block<Weights>(strips + strip * T::kStripBytes, codes + me.token * kBlockInputs, me.lane,
                              acc.integer);
    } else {
      multiply_outliers(strips + strip * kOutlierStripBytes, codes + outlier_offset(me.token, 0), me.lane,
                        acc.bypass);
    }
  }
}

/// The sum of a run of four outputs over the block's runs of K.
template <class T, class Four>
__device__ __forceinline__ Four sum_of_warps(const Four* run) {
  Four sum = *run;
#pragma unroll
  for (int i = 1; i < T::kInputWarps; ++i) add(sum, run[i * (T::kSums / 4)]);
  return sum;
}

/// Scales and stores the tile whose sums lie in shared memory, one run of K after the other.
template <class Weights, class T>
__device__ __forceinline__ void finish_tile(const GemmProblem& p, const Origin& at, const int* sums) {
  const int thread = static_cast<int>(threadIdx.x);
  const ColumnRun columns(p, at.row + 4 * (thread % T::kRunsPerToken));
  const int tokens = static_cast<int>(min(p.m - at.token, static_cast<int64_t>(T::kTokens)));
#pragma unroll 1
  for (int token = thread / T::kRunsPerToken; token < tokens; token += T::kThreads / T::kRunsPerToken) {
    const int index = sum_index<T::kRows>(token, 4 * (thread % T::kRunsPerToken));
    const int4 sum = sum_of_warps<T>(reinterpret_cast<const int4*>(sums + index));
    const TokenFactors factors = load_token(p, at.token + token);
    if constexpr (T::kOutliers) {
      const float4 bypass =
          sum_of_warps<T>(reinterpret_cast<const float4*>(sums + T::kInputWarps * T::kSums + index));
      const float values[4] = {bypass.x, bypass.y, bypass.z, bypass.w};
      finish_run<Weights::kShift>(p, columns, sum, factors, at.token + token, values);
    } else {
      finish_run<Weights::kShift>(p, columns, sum, factors, at.token + token);
    }
  }
}

template <class Weights, class T>
__global__ void __launch_bounds__(T::kThreads) gemm_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t shared[];
  const TileIndex tile = p.order.at(static_cast<int>(blockIdx.x));
  const Origin at{static_cast<int64_t>(tile.row) * T::kRows, static_cast<int64_t>(tile.token) * T::kTokens};
  const WarpPlace me = warp_place<T>();
  WarpAccumulators<T::kStrips, T::kGroups> acc;
  accumulate_tile<Weights, T>(p, at, shared, me, acc);
  __syncthreads();  // the ring has been read: sums take its place
  int* sums = reinterpret_cast<int*>(shared);
  store_sums<T::kRows>(sums + me.input * T::kSums, me.token, me.row, me.lane, acc.integer);
  if constexpr (T::kOutliers) {
    store_sums<T::kRows>(reinterpret_cast<float*>(sums) + (T::kInputWarps + me.input) * T::kSums, me.token,
                         me.row, me.lane, acc.bypass);
  }
  __syncthreads();
  finish_tile<Weights, T>(p.problem, at, sums);
}

}  // namespace tessera::cuda::sm80
