// The tile sizes of the sm_90a GEMM, their shared memory, and what a launch tells the kernel.
#pragma once

#include <algorithm>

#include "tessera/kernels/cuda/cost_model.h"
#include "tessera/kernels/cuda/packed_weights.h"
#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/tile_order.cuh"

namespace tessera::cuda {

/// Runs of four outputs in 64; a thread of a warpgroup finishes one run of each of its tokens.
constexpr int kRuns = kBlockOutputs / 4;
constexpr int kSlotTokens = 8, kSlotBytes = kSlotTokens * kBlockOutputs * 4;
constexpr int kSharedPerTwoBlocks = 113 * 1024;

/// What a launch tells the kernel. What the first copies depend on comes first and together: a miss of the
/// constant cache takes 200 cycles, and everybody waits for them.
struct GemmParams {
  TileOrder order;
  int input_blocks = 0, row_blocks = 0;  ///< along K and N
  int tile_tokens = 0;                   ///< tokens of a tile but the last
  int split_log2 = 0;
  int outlier_blocks = 0;   ///< of 32 columns, behind each block's inputs of a tile
  bool overlapped = false;  ///< kernels before this one may still run
  int never = 0;            ///< 0, see keep_registers
  GemmProblem problem;

  __device__ __forceinline__ int split() const { return 1 << split_log2; }
};

/// What a warpgroup's epilogue needs of its tokens and outputs.
template <int kTokens, int kOutputs>
struct TileConstants {
  float token_scale[kTokens];
  int token_zero[kTokens];
  float scale[kOutputs], bias[kOutputs];
  int row_sum[kOutputs];
};

/// Shared memory and launch bounds of one tile size.
template <class Weights, int kOutputs_, int kTokens_, bool kOutliers_>
struct Tile {
  static constexpr bool kOutliers = kOutliers_;
  static constexpr int kOutputs = kOutputs_, kTokens = kTokens_;
  static constexpr int kTileBlocks = kOutputs / kBlockOutputs;  ///< 64-row blocks
  static constexpr int kConsumerGroups = multiplying_warpgroups(kOutputs);
  /// Warpgroups that take the stages in turn, and add up their sums as the blocks of a cluster do: tiles of
  /// 64 outputs have one row block for all.
  static constexpr int kInputGroups = kTileBlocks == 1 ? kConsumerGroups : 1;
  static constexpr int kThreads = (kConsumerGroups + 1) * 128;
  static constexpr int kRowBlocks = kTileBlocks * kInputGroups / kConsumerGroups;  ///< of a warpgroup
  /// Independent sums of each output: products of few tokens are too short to wait for one another.
  static constexpr int kChains = kTokens <= 32 ? 2 : 1;
  static constexpr int kBlockBytes = block_bytes(Weights::kLayout);
  static constexpr int kCodeBytes = kTokens * kBlockInputs;
  static constexpr int kStageBytes =
      static_cast<int>(ceil_div(kCodeBytes + kTileBlocks * kBlockBytes, 1024)) * 1024;
  /// Slots of the 16-bit outputs of a 64-row block of an unsplit tile, on their way to device memory.
  static constexpr int kPackedSlots = kTokens * kBlockOutputs * 2 / kSlotBytes;
  /// Groups of 8 tokens whose sums a warpgroup has when those of its block have been added up, and slots in
  /// which it receives them from the others: half of them at a time where that gives the ring more stages.
  static constexpr int kLocalGroups = kTokens / kSlotTokens / kInputGroups;
  static constexpr int kLocalPasses = kTokens > 128 ? 2 : 1;
  static constexpr int kGroupsAtOnce = static_cast<int>(ceil_div(kLocalGroups, kLocalPasses));
  static constexpr int kLocalSlots = kGroupsAtOnce * (kInputGroups - 1);
  static constexpr bool splits(int split) {
    return kOutliers ? splits_outliers(kOutputs, kTokens, split) : cuda::splits(kOutputs, kTokens, split);
  }
  /// Slots in which it receives them and those of `split` - 1 blocks.
  static constexpr int slots_of(int split) {
    return splits(split) ? kLocalSlots + (split - 1) * static_cast<int>(ceil_div(kLocalGroups, split)) : 0;
  }
  /// Room of a warpgroup, in slots of 8 tokens x 64 outputs: to receive sums, then to transpose its share,
  /// 32-bit outputs in two pieces if need be.
  static constexpr int kSlots = std::max({kRowBlocks * kPackedSlots, slots_of(2), slots_of(4), slots_of(8)});
  static constexpr int kExchangeBytes = kSlots * kSlotBytes;
  using Constants = TileConstants<kTokens, kRowBlocks * kBlockOutputs>;
  /// Stages of the ring at most. All blocks fill theirs at the same time: with more, the first stage comes
  /// late. Warpgroups that take turns have six each.
  static constexpr int kMaxStages = kInputGroups > 1 ? 6 * kInputGroups : 7;
  static constexpr int kFixedBytes =
      kConsumerGroups * (kExchangeBytes + sizeof(Constants)) + 2 * (kMaxStages + kConsumerGroups) * 8;
  static constexpr int kBlocksPerSm = tile_blocks_per_sm(kOutputs, kTokens);
  /// Where warpgroups take the stages in turn, a whole number of turns, so that each always meets the same
  /// stages. Otherwise one could ask for a stage that another has not seen full yet, and take the parity of
  /// the time before for its own.
  static constexpr int kStages =
      std::min(kMaxStages,
               ((kBlocksPerSm == 2 ? kSharedPerTwoBlocks : kSharedPerBlock) - kFixedBytes) / kStageBytes) /
      kInputGroups * kInputGroups;
  static constexpr int kSharedBytes = kFixedBytes + kStages * kStageBytes;

  /// Registers a thread at launch, and after the warpgroups have traded them within the block.
  static constexpr int kLaunchRegisters = kBlocksPerSm == 2 ? 80 : kConsumerGroups == 3 ? 128 : 168;
  static constexpr int kProducerRegisters = 24;
  static constexpr int kConsumerRegisters = kBlocksPerSm == 2 ? 104 : kConsumerGroups == 3 ? 160 : 240;

  static_assert(kProducerRegisters + kConsumerGroups * kConsumerRegisters <=
                    (kConsumerGroups + 1) * kLaunchRegisters,
                "otherwise the consumers wait for registers for ever");
  static_assert(kRowBlocks * kConsumerGroups == kTileBlocks * kInputGroups);
  static_assert(kTokens % (kSlotTokens * kInputGroups) == 0);
  static_assert(kPackedSlots <= kSlots && kTokens / 8 <= 2 * kSlots);
  static_assert(kCodeBytes % 1024 == 0 && kExchangeBytes % 1024 == 0, "swizzle atoms are 1024 bytes");
  static_assert(kStages >= 3 && kStages >= kInputGroups);
};

/// Shared addresses of a block's buffers.
template <class T>
struct SharedMemory {
  uint8_t* base;

  __device__ uint8_t* stage(int i) const {
    return base + T::kConsumerGroups * T::kExchangeBytes + i * T::kStageBytes;
  }
  __device__ uint8_t* slot(int group, int i) const {
    return base + group * T::kExchangeBytes + i * kSlotBytes;
  }
  __device__ typename T::Constants& constants(int group) const {
    return reinterpret_cast<typename T::Constants*>(stage(T::kStages))[group];
  }
  __device__ uint32_t barrier(int i) const {
    return ptx::shared_address(&constants(T::kConsumerGroups)) + 8 * i;
  }
  __device__ uint32_t full(int stage) const { return barrier(stage); }
  __device__ uint32_t empty(int stage) const { return barrier(T::kMaxStages + stage); }
  /// The cluster's sums for a warpgroup have come in / those that receive its sums have room for the next.
  __device__ uint32_t received(int group) const { return barrier(2 * T::kMaxStages + group); }
  __device__ uint32_t free(int group) const {
    return barrier(2 * T::kMaxStages + T::kConsumerGroups + group);
  }
};

/// Where an output tile lies, or a warpgroup's part of it.
struct TilePlace {
  int64_t first_row, first_token, end_token;
};

/// Where a consumer thread stands.
struct Consumer {
  int group, warp, lane;  ///< warpgroup, warp in it, lane

  __device__ __forceinline__ int thread() const { return warp * 32 + lane; }  ///< in the warpgroup
};

}  // namespace tessera::cuda
