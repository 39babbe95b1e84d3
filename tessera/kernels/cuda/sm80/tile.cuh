// What a launch of the kernels for compute capability 8.0 knows: sizes of its tiles, and its parameters.
#pragma once

#include <algorithm>

#include "tessera/kernels/cuda/sm80/configs.h"
#include "tessera/kernels/cuda/tile_order.cuh"

namespace tessera::cuda::sm80 {

/// Sizes of a tile. `Weights` is a struct of expand.cuh, or PackedInt4Weights (codes.cuh).
template <class Weights, TileShape kShape, bool kOutliers_>
struct Tile {
  static constexpr bool kOutliers = kOutliers_;
  static constexpr int kOutputWarps = kShape.output_warps, kTokenWarps = kShape.token_warps,
                       kInputWarps = kShape.input_warps;
  static constexpr int kStrips = kShape.strips, kGroups = kShape.groups;
  static constexpr int kWarpOutputs = kStrips * kStripOutputs, kWarpTokens = 8 * kGroups;
  static constexpr int kOutputs = kShape.outputs(), kTokens = kShape.tokens(), kThreads = 32 * kShape.warps();
  static constexpr int kStripBytes = strip_bytes(Weights::kLayout);
  static constexpr int kTokenBytes = kBlockInputs * Weights::kCodeBits / 8;
  /// Of 128 inputs; a stage has kInputWarps of each, codes first.
  static constexpr int kCodeBytes = kTokens * kTokenBytes,
                       kWeightBytes = kOutputs / kStripOutputs * kStripBytes;
  static constexpr int kStageBytes = kInputWarps * (kCodeBytes + kWeightBytes);
  static constexpr int kMaxSharedBytes = 99 * 1024, kMaxStages = 4;
  static constexpr int kStages = std::min(kMaxStages, kMaxSharedBytes / kStageBytes);
  /// Where not all sums fit at once, token warps take turns.
  static constexpr int kSumBytes = kInputWarps * kOutputs * kTokens * (kOutliers ? 8 : 4);
  static constexpr int kTurns = static_cast<int>(ceil_div(kSumBytes, kMaxSharedBytes));
  static constexpr int kTurnTokens = kTokens / kTurns;
  static constexpr int kSums = kOutputs * kTurnTokens;  ///< of one run of K in a turn
  static constexpr int kSharedBytes = std::max(kStages * kStageBytes, kSumBytes / kTurns);
  static constexpr int kRunsPerToken = kOutputs / 4;  ///< runs of four outputs, which one thread finishes

  static_assert(kStages >= 2 && kSharedBytes <= kMaxSharedBytes);
  static_assert(kTokenWarps % kTurns == 0);
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

/// The tile of a block: its first output and token, and how many tokens there are.
struct Origin {
  int64_t row, token;
  int tokens;
};

/// Which 16-byte chunks of the tokens' rows of kChunks, one run of K after the other, a thread copies: piece
/// i is chunk `chunk` of row(i). Constant distances between pieces spare most of their address arithmetic.
template <class T, int kChunks>
struct RowPieces {
  static constexpr int kStep = T::kThreads / kChunks, kCount = T::kInputWarps * T::kTokens / kStep;
  static_assert(T::kTokens % kStep == 0 || kStep % T::kTokens == 0);
  int chunk = static_cast<int>(threadIdx.x) % kChunks, first = static_cast<int>(threadIdx.x) / kChunks;

  __device__ __forceinline__ int row(int i) const { return first + i * kStep; }
  __device__ __forceinline__ int run(int i) const { return first / T::kTokens + i * kStep / T::kTokens; }
  __device__ __forceinline__ int token(int i) const { return first % T::kTokens + i * kStep % T::kTokens; }
  /// The row in memory of the token of piece i, when rows are `stride` elements apart.
  template <class V>
  __device__ __forceinline__ const V* source(const V* rows, int64_t first_token, int64_t stride,
                                             int i) const {
    return rows + (first_token + first % T::kTokens) * stride + i * kStep % T::kTokens * stride;
  }
};

}  // namespace tessera::cuda::sm80
