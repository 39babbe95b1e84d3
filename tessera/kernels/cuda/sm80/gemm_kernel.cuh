// Integer GEMM for compute capability 8.0 and later: mma.sync, weights as operand A.
//   acc[N, M] s32 = W[N, K] (8 bits, or 4 bits expanded in registers) x codes[M, K]^T s8;  epilogue as gemm.h
//   m16n8k32 for 8-bit operands; m16n8k64, twice as fast on 8.0 to 8.9, where both are codes of 4 bits.
// Tile    a block of eight warps, laid out along outputs, tokens and runs of K: see configs.h. A warp has 32
//         outputs or more, so that what it expands serves two token groups or more; warps that share outputs
//         along K fill the device when there are few of them, and add up in shared memory: no second pass,
//         exact in any order.
// Ring    stages of 128 inputs a run of K, brought by cp.async in 16-byte pieces: codes swizzled for ldmatrix
//         (4-bit ones through registers: codes.cuh), weights as they lie in memory. One barrier of the block
//         a stage.
// Shared  at most 99 KB, what a block gets on 8.6 and 8.9; 8.0 could hold more.
// Bound   by weight bandwidth for few tokens, by the tensor cores and the issue of ldmatrix and expansion for
//         many.
// Outliers (QUIK) follow the inputs through the same ring, 32 columns where 128 inputs were, into float sums.
#pragma once

#include <type_traits>

#include "tessera/kernels/cuda/scaling.cuh"
#include "tessera/kernels/cuda/sm80/codes.cuh"
#include "tessera/kernels/cuda/warp_product.cuh"

namespace tessera::cuda::sm80 {

/// Where a warp stands.
struct WarpPlace {
  int lane, row, token, input;  ///< row, token: of the tile; input: which run of K
};

template <class T>
__device__ __forceinline__ WarpPlace warp_place() {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return {static_cast<int>(threadIdx.x) % 32, warp % T::kOutputWarps * T::kWarpOutputs,
          warp / T::kOutputWarps % T::kTokenWarps * T::kWarpTokens,
          warp / (T::kOutputWarps * T::kTokenWarps)};
}

/// Copies the tokens' values of blocks of outliers.
template <class T>
__device__ __forceinline__ void copy_outliers(const Params& p, const Origin& at, int block, uint32_t to) {
  const Outliers& outliers = p.problem.outliers;
  const RowPieces<T, 2 * kOutlierColumns / 16> pieces;
#pragma unroll
  for (int i = 0; i < pieces.kCount; ++i) {
    const int from = block + pieces.run(i);
    const bool live = pieces.token(i) < at.tokens && from < p.outlier_blocks;
    const auto* row = pieces.source(static_cast<const uint16_t*>(outliers.x), at.token, outliers.stride, i);
    ptx::copy_async(to + pieces.run(i) * T::kCodeBytes + narrow_offset(pieces.token(i), pieces.chunk),
                    row + from * kOutlierColumns + 8 * pieces.chunk, live);
  }
}

/// Copies the tile's strips of kInputWarps blocks from `block` of `count` on; those that do not exist become
/// 0.
template <class T, int kStripBytes>
__device__ __forceinline__ void copy_strips(const void* blocks, int row_blocks, int count, const Origin& at,
                                            int block, uint32_t to) {
  constexpr int kRunBytes = T::kOutputs / kStripOutputs * kStripBytes;
  constexpr int kBytes = T::kInputWarps * kRunBytes, kStep = 16 * T::kThreads;
  constexpr int kBlockBytes = kBlockOutputs / kStripOutputs * kStripBytes;
  const int row_block = static_cast<int>(at.row / kBlockOutputs);
  const auto* from =
      static_cast<const uint8_t*>(blocks) + (static_cast<int64_t>(row_block) * count + block) * kBlockBytes;
#pragma unroll
  for (int i = 0; i < ceil_div(kBytes, kStep); ++i) {
    const int piece = i * kStep + 16 * static_cast<int>(threadIdx.x);
    if (kBytes % kStep != 0 && piece >= kBytes) break;
    const int run = piece / kRunBytes;
    const int byte =
        static_cast<int>(at.row % kBlockOutputs) / kStripOutputs * kStripBytes + piece % kRunBytes;
    const int next_row_blocks = byte / kBlockBytes;
    const bool live = block + run < count && row_block + next_row_blocks < row_blocks;
    const int offset = (next_row_blocks * count + run) * kBlockBytes + byte % kBlockBytes;
    ptx::copy_async(to + run * T::kWeightBytes + piece % kRunBytes, from + offset, live);
  }
}

template <class Weights, class T>
using Codes = std::conditional_t<Weights::kCodeBits == 4, PackedCodes<T>, CopiedCodes<T>>;

/// Starts the copies of a stage: of inputs, and of outliers behind them.
template <class T, class Codes>
__device__ __forceinline__ void start_stage(const Params& p, const Origin& at, int index, uint32_t ring,
                                            Codes& codes) {
  const uint32_t to = ring + index % T::kStages * T::kStageBytes;
  const uint32_t strips = to + T::kInputWarps * T::kCodeBytes;
  const GemmProblem& problem = p.problem;
  if (index < p.input_stages) {
    const int block = index * T::kInputWarps;
    copy_strips<T, T::kStripBytes>(problem.weights.blocks, p.row_blocks, p.input_blocks, at, block, strips);
    codes.fetch(problem, at, block, to);
  } else if (T::kOutliers && index < p.input_stages + p.outlier_stages) {
    const int block = (index - p.input_stages) * T::kInputWarps;
    copy_outliers<T>(p, at, block, to);
    copy_strips<T, kOutlierStripBytes>(problem.outliers.weights, p.row_blocks, p.outlier_blocks, at, block,
                                       strips);
  }
  ptx::commit_copies();  // also when there are none: the wait for a stage counts
}

/// Ends what start_stage left to the threads.
template <class T, class Codes>
__device__ __forceinline__ void complete_stage(const Params& p, int index, uint8_t* ring,
                                               const Codes& codes) {
  if (index < p.input_stages) codes.deliver(ring + index % T::kStages * T::kStageBytes);
}

/// Adds the products of this warp's block of inputs of a stage.
template <class Weights, class T>
__device__ __forceinline__ void multiply_inputs(const uint8_t* strips, uint32_t codes, const WarpPlace& me,
                                                WarpSums<T::kStrips, T::kGroups>& acc) {
  strips += me.row / kStripOutputs * T::kStripBytes;
  codes += me.token * T::kTokenBytes;
  if constexpr (Weights::kCodeBits == 4) {
    multiply_narrow_block<Weights>(strips, codes, me.lane, acc);
  } else {
    multiply_block<Weights>(strips, codes, me.lane, acc);
  }
}

/// Adds up this warp's run of K, and of the outliers.
template <class Weights, class T>
__device__ __forceinline__ void accumulate_tile(const Params& p, const Origin& at, uint8_t* shared,
                                                const WarpPlace& me,
                                                WarpAccumulators<T::kStrips, T::kGroups>& acc) {
  const int count = p.input_stages + p.outlier_stages;
  const uint32_t ring = ptx::shared_address(shared);
  Codes<Weights, T> incoming;
#pragma unroll 1
  for (int i = 0; i < T::kStages - 1; ++i) {
    start_stage<T>(p, at, i, ring, incoming);
    complete_stage<T>(p, i, shared, incoming);
  }
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    ptx::wait_for_copies<T::kStages - 2>();
    __syncthreads();  // everybody's copies are here, and the stage before has been read
    const int next = i + T::kStages - 1;
    start_stage<T>(p, at, next, ring, incoming);
    const int stage = i % T::kStages * T::kStageBytes;
    const uint8_t* strips = shared + stage + T::kInputWarps * T::kCodeBytes + me.input * T::kWeightBytes;
    const uint32_t codes = ring + stage + me.input * T::kCodeBytes;
    if (!T::kOutliers || i < p.input_stages) {
      multiply_inputs<Weights, T>(strips, codes, me, acc.integer);
    } else {
      multiply_narrow_block<OutlierWeights>(strips + me.row / kStripOutputs * kOutlierStripBytes,
                                            codes + narrow_offset(me.token, 0), me.lane, acc.bypass);
    }
    complete_stage<T>(p, next, shared, incoming);
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

/// Scales and stores the sums of a turn's tokens, which lie in shared memory, one run of K after the other.
template <class Weights, class T>
__device__ __forceinline__ void finish_turn(const GemmProblem& p, const ColumnRun& columns,
                                            int64_t first_token, int tokens, const int* sums) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int i = thread / T::kRunsPerToken; i < tokens; i += T::kThreads / T::kRunsPerToken) {
    const int index = sum_index<T::kOutputs>(i, 4 * (thread % T::kRunsPerToken));
    const int4 sum = sum_of_warps<T>(reinterpret_cast<const int4*>(sums + index));
    const TokenFactors factors = load_token(p, first_token + i);
    if constexpr (T::kOutliers) {
      const float4 bypass =
          sum_of_warps<T>(reinterpret_cast<const float4*>(sums + T::kInputWarps * T::kSums + index));
      const float values[4] = {bypass.x, bypass.y, bypass.z, bypass.w};
      finish_run<Weights::kShift>(p, columns, sum, factors, first_token + i, values);
    } else {
      finish_run<Weights::kShift>(p, columns, sum, factors, first_token + i);
    }
  }
}

/// Brings the sums to shared memory, where the ring was, and finishes them.
template <class Weights, class T>
__device__ __forceinline__ void finish_tile(const GemmProblem& p, const Origin& at, int* sums,
                                            const WarpPlace& me,
                                            const WarpAccumulators<T::kStrips, T::kGroups>& acc) {
  const ColumnRun columns(p, at.row + 4 * (static_cast<int>(threadIdx.x) % T::kRunsPerToken));
#pragma unroll 1
  for (int turn = 0; turn < T::kTurns; ++turn) {
    __syncthreads();  // what lay there has been read
    if (T::kTurns == 1 || me.token / T::kTurnTokens == turn) {
      const int token = me.token % T::kTurnTokens;
      store_sums<T::kOutputs>(sums + me.input * T::kSums, token, me.row, me.lane, acc.integer);
      if constexpr (T::kOutliers) {
        store_sums<T::kOutputs>(reinterpret_cast<float*>(sums) + (T::kInputWarps + me.input) * T::kSums,
                                token, me.row, me.lane, acc.bypass);
      }
    }
    __syncthreads();
    const int done = turn * T::kTurnTokens;
    finish_turn<Weights, T>(p, columns, at.token + done, min(at.tokens - done, T::kTurnTokens), sums);
  }
}

template <class Weights, class T>
__global__ void __launch_bounds__(T::kThreads) gemm_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t shared[];
  const TileIndex tile = p.order.at(static_cast<int>(blockIdx.x));
  const int64_t first_token = static_cast<int64_t>(tile.token) * T::kTokens;
  const Origin at{static_cast<int64_t>(tile.row) * T::kOutputs, first_token,
                  static_cast<int>(min(p.problem.m - first_token, static_cast<int64_t>(T::kTokens)))};
  const WarpPlace me = warp_place<T>();
  WarpAccumulators<T::kStrips, T::kGroups> acc;
  accumulate_tile<Weights, T>(p, at, shared, me, acc);
  finish_tile<Weights, T>(p.problem, at, reinterpret_cast<int*>(shared), me, acc);
}

}  // namespace tessera::cuda::sm80
