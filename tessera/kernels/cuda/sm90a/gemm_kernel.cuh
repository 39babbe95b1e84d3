// Integer GEMM for sm_90a: wgmma m64nNk32 s8 with the weights as the register operand.
//   acc[N, M] s32 = W[N, K] (8 bits, or 4 bits expanded in registers) x codes[M, K]^T s8;  epilogue as gemm.h
// Tile    128 or 256 outputs x 8..128 tokens x 128 inputs a stage; two consumer warpgroups of 64 or 128 outputs
//         each, one producer. Any M, N; K a multiple of 16.
// Traffic a stage: tokens x 128 bytes of codes by tensor copy (128-byte swizzle, out-of-range zeros), rows x 64
//         bytes of weights (4 bits; groups + 2 bytes a group and row) by bulk copies of whole blocks.
//         Weights are read once per `tokens` rows of the input.
// Budget  accumulators: (rows / 128) (tokens / 2) registers a thread, two fragment buffers of 8; shared memory:
//         the ring of stages and 512 bytes a token for the exchange of accumulators.
// Hiding  each consumer keeps one batch of two wgmma in flight while it expands the next; the other warpgroup
//         fills what remains.
// Split   the blocks of a cluster take a run of K each. They send their int32 sums to the block that owns a group of
//         8 tokens, in fragment order through the cluster window; the owner adds them to its registers: exact in
//         any order, no global workspace, no atomics, no fences.
// Bound   by weight bandwidth up to about 100 tokens, then by L2 traffic (M <= 256), then by the tensor cores.
// Source  QQQ (weights at rest), DGQ (exact expansion), LiquidGEMM (swapped operands).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/sm90a/expand.cuh"
#include "tessera/kernels/cuda/sm90a/wgmma.cuh"

namespace tessera::cuda {

constexpr int kConsumerGroups = 2;
constexpr int kThreads = (kConsumerGroups + 1) * 128;
constexpr int kMaxStages = 12;
constexpr int kSlotTokens = 8, kSlotBytes = kSlotTokens * kBlockRows * 4;
constexpr int kSharedPerBlock = 227 * 1024, kSharedPerTwoBlocks = 113 * 1024;

/// What a launch tells the kernel.
struct GemmParams {
  GemmProblem problem;
  int input_blocks = 0;  ///< along K
  int token_tiles = 0, row_tiles = 0;
  int stages = 0;
};

/// Shared memory and launch bounds of one tile size.
template <class Weights, int kRows_, int kTokens_>
struct Tile {
  static constexpr int kRows = kRows_, kTokens = kTokens_;
  static constexpr int kRowBlocks = kRows / (kConsumerGroups * kBlockRows);  ///< 64-row blocks a warpgroup
  static constexpr int kBlockBytes = block_bytes(Weights::kLayout);
  static constexpr int kCodeBytes = kTokens * kBlockInputs;
  static constexpr int kStageBytes =
      static_cast<int>(ceil_div(kCodeBytes + kConsumerGroups * kRowBlocks * kBlockBytes, 1024)) * 1024;
  /// Room of a warpgroup to receive and to transpose accumulators, in slots of 8 tokens x 64 outputs.
  static constexpr int kSlots = std::max(kTokens / 8, 4);
  static constexpr int kExchangeBytes = kSlots * kSlotBytes;
  static constexpr int kFixedBytes = kConsumerGroups * kExchangeBytes + (2 * kMaxStages + 4) * 8;
  /// Small tiles run two blocks an SM, so that one's start and end hide behind the other's stream.
  static constexpr int kBlocksPerSm = kRowBlocks == 1 && kTokens <= 64 ? 2 : 1;
  static constexpr int kStages =
      std::min(kMaxStages, ((kBlocksPerSm == 2 ? kSharedPerTwoBlocks : kSharedPerBlock) - kFixedBytes) / kStageBytes);
  static constexpr int kSharedBytes = kFixedBytes + kStages * kStageBytes;

  /// Registers a thread at launch, and after the warpgroups have traded them within the block.
  static constexpr int kLaunchRegisters = kBlocksPerSm == 2 ? 80 : 168;
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = kBlocksPerSm == 2 ? 96 : 232;

  static_assert(kProducerRegisters + kConsumerGroups * kConsumerRegisters <=
                    (kConsumerGroups + 1) * kLaunchRegisters,
                "otherwise the consumers wait for registers for ever");
  static_assert(kRows % (kConsumerGroups * kBlockRows) == 0 && kTokens % 8 == 0);
  static_assert(kCodeBytes % 1024 == 0 && kExchangeBytes % 1024 == 0, "swizzle atoms are 1024 bytes");
  static_assert(kStages >= 3);
};

/// Shared addresses of a block's buffers.
template <class T>
struct SharedMemory {
  uint8_t* base;
  uint32_t address = ptx::shared_address(base);

  __device__ uint8_t* stage(int i) const { return base + kConsumerGroups * T::kExchangeBytes + i * T::kStageBytes; }
  __device__ uint8_t* slot(int group, int i) const { return base + group * T::kExchangeBytes + i * kSlotBytes; }
  __device__ uint32_t barrier(int i) const {
    return address + kConsumerGroups * T::kExchangeBytes + T::kStages * T::kStageBytes + 8 * i;
  }
  __device__ uint32_t full(int stage) const { return barrier(stage); }
  __device__ uint32_t empty(int stage) const { return barrier(kMaxStages + stage); }
  /// The cluster's sums for a warpgroup have come in / what it sent has been read everywhere.
  __device__ uint32_t received(int group) const { return barrier(2 * kMaxStages + group); }
  __device__ uint32_t read(int group) const { return barrier(2 * kMaxStages + 2 + group); }
};

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
    ptx::bulk_copy(to + i * T::kBlockBytes, blocks + block * T::kBlockBytes, T::kBlockBytes, shared.full(stage),
                   p.token_tiles == 1 ? ptx::kEvictFirst : ptx::kEvictLast);
  }
}

template <class T>
__device__ __forceinline__ void fetch_codes(const CUtensorMap* map, const SharedMemory<T>& shared, int stage,
                                            TileIndex tile, int k) {
  ptx::tensor_copy(ptx::shared_address(shared.stage(stage)), map, k * kBlockInputs, tile.token * T::kTokens,
                   shared.full(stage), ptx::kEvictLast);
}

/// Fills the ring for the first time, a lane a stage: weights at once, codes when the kernels that produce them are
/// done. Returns the number of stages filled.
template <class Weights, class T>
__device__ __forceinline__ int fill_ring(const CUtensorMap* map, const GemmParams& p, const SharedMemory<T>& shared,
                                         const WorkRange& work, int lane) {
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
__device__ __forceinline__ void produce(const CUtensorMap* map, const GemmParams& p, const SharedMemory<T>& shared,
                                        const WorkRange& work, int filled) {
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

/// Where a consumer thread stands.
struct Consumer {
  int group, warp, lane;  ///< warpgroup, warp in it, lane

  __device__ __forceinline__ int thread() const { return warp * 32 + lane; }  ///< in the warpgroup
};

template <class T>
using Accumulators = int[T::kRowBlocks][T::kTokens / 2];

/// Adds the products of one stage. On return the last batch is still in flight; everything before it, also of
/// the stage before, has finished once the first batch was issued: then `release` runs.
template <class Weights, class T, class Release>
__device__ __forceinline__ void multiply_stage(const uint8_t* stage, const Consumer& me, bool accumulate,
                                               Accumulators<T>& acc, uint32_t (&fragment)[2][2][4],
                                               const Release& release) {
  const uint64_t codes = tile_descriptor(ptx::shared_address(stage));
  const uint8_t* blocks = stage + T::kCodeBytes + me.group * T::kRowBlocks * T::kBlockBytes;
  typename Weights::Raw raw[2][T::kRowBlocks];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < T::kRowBlocks; ++j) {
      raw[half][j] = Weights::load(blocks + j * T::kBlockBytes, half, me.warp, me.lane);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < T::kRowBlocks; ++j) {
      uint32_t(&a)[2][4] = fragment[(half * T::kRowBlocks + j) % 2];
      Weights::expand(raw[half][j], a);
      pin_registers(a);
      wgmma_fence();
      constexpr int kStep = 32 >> 4;  // columns in units of the descriptor
      wgmma<T::kTokens>(acc[j], a[0], codes + (2 * half) * kStep, half > 0 || accumulate);
      wgmma<T::kTokens>(acc[j], a[1], codes + (2 * half + 1) * kStep, true);
      wgmma_commit();
      wgmma_wait<1>();
      if (half == 0 && j == 0) release();
    }
  }
}

/// The groups of 8 tokens in a tile that this block finishes: rank, rank + split, ...; group i is number i / split.
template <class T>
struct Ownership {
  static constexpr int kGroups = T::kTokens / kSlotTokens;
  int split, rank;

  __device__ __forceinline__ bool mine(int group) const { return (group & (split - 1)) == rank; }
  /// Groups a block finishes, at most and exactly.
  __device__ __forceinline__ int most() const { return max(kGroups / split, 1); }
  __device__ __forceinline__ int count() const { return (kGroups - rank + split - 1) / split; }
  /// Other blocks that own groups: those that this block sends to.
  __device__ __forceinline__ int receivers() const { return min(split, kGroups) - (rank < kGroups ? 1 : 0); }
  /// Where block `owner` receives group `group` of this block.
  __device__ __forceinline__ int slot_at(int owner, int group) const {
    return (rank - (rank > owner)) * most() + group / split;
  }
  /// Where this block transposes its group number `number`: behind the slots that it receives.
  __device__ __forceinline__ int transpose_slot(int number) const { return (split - 1) * most() + number; }
};

/// Sends the groups that others own. `round` counts the exchanges: the slots of the round before must have been read.
template <class T>
__device__ __forceinline__ void send_sums(const SharedMemory<T>& shared, const Ownership<T>& own, const Consumer& me,
                                          uint32_t round, const int (&d)[T::kTokens / 2]) {
  if (own.receivers() > 0 && round > 0) ptx::mbarrier_wait(shared.read(me.group), (round - 1) & 1);
#pragma unroll
  for (int i = 0; i < own.kGroups; ++i) {
    if (own.mine(i)) continue;
    const int owner = i & (own.split - 1);
    const uint32_t slot = ptx::shared_address(shared.slot(me.group, own.slot_at(owner, i))) + me.thread() * 16;
    ptx::store_remote(ptx::map_shared(slot, owner), d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3],
                      ptx::map_shared(shared.received(me.group), owner));
  }
}

/// Adds what others sent to the groups that this block owns, then tells the senders. A block that owns nothing
/// tells nothing: its barriers then advance no further than its peers wait for.
template <class T>
__device__ __forceinline__ void receive_sums(const SharedMemory<T>& shared, const Ownership<T>& own, const Consumer& me,
                                             uint32_t round, int (&d)[T::kTokens / 2]) {
  if (own.count() == 0) return;
  if (me.thread() == 0) {
    ptx::mbarrier_arrive_expect(shared.received(me.group), (own.split - 1) * own.count() * kSlotBytes);
  }
  ptx::mbarrier_wait(shared.received(me.group), round & 1);
#pragma unroll
  for (int i = 0; i < own.kGroups; ++i) {
    if (!own.mine(i)) continue;
    for (int peer = 0; peer + 1 < own.split; ++peer) {
      const uint8_t* slot = shared.slot(me.group, peer * own.most() + i / own.split);
      const int4 part = *reinterpret_cast<const int4*>(slot + me.thread() * 16);
      d[4 * i] += part.x;
      d[4 * i + 1] += part.y;
      d[4 * i + 2] += part.z;
      d[4 * i + 3] += part.w;
    }
  }
  __syncwarp();
  if (me.lane < own.split && me.lane != own.rank) {
    ptx::mbarrier_arrive_remote(ptx::map_shared(shared.read(me.group), me.lane));
  }
}

/// Word of (token, row) in a transposed slot: rows are swizzled so that the fragment's stores meet no bank conflict
/// and aligned runs of four outputs stay together.
__device__ __forceinline__ int transposed_index(int token, int row) {
  return token * kBlockRows + (row ^ (token / 2 * 8));
}

/// Writes the groups that this block owns to shared memory, token by token.
template <class T>
__device__ __forceinline__ void transpose(const SharedMemory<T>& shared, const Ownership<T>& own, const Consumer& me,
                                          const int (&d)[T::kTokens / 2]) {
  const int token = 2 * (me.lane % 4), row = 16 * me.warp + me.lane / 4;
  int* words = reinterpret_cast<int*>(shared.slot(me.group, own.transpose_slot(0)));
  int* low = words + transposed_index(token, row);
  int* high = words + transposed_index(token, row + 8);
#pragma unroll
  for (int i = 0; i < own.kGroups; ++i) {
    if (!own.mine(i)) continue;
    const int at = i / own.split * (kSlotBytes / 4);
    low[at] = d[4 * i];
    low[at + kBlockRows] = d[4 * i + 1];
    high[at] = d[4 * i + 2];
    high[at + kBlockRows] = d[4 * i + 3];
  }
}

/// Element `index` of a tensor of the output type.
__device__ __forceinline__ float load_output(const void* tensor, OutputType type, int64_t index) {
  if (type == OutputType::kFloat) return static_cast<const float*>(tensor)[index];
  if (type == OutputType::kHalf) return __half2float(static_cast<const __half*>(tensor)[index]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(tensor)[index]);
}

/// Stores `count` (1 to 4) outputs at `index`; `aligned`: four may be stored at once.
__device__ __forceinline__ void store_outputs(void* tensor, OutputType type, int64_t index, const float (&y)[4],
                                              int count, bool aligned) {
  if (aligned && count == 4) {
    if (type == OutputType::kFloat) {
      *reinterpret_cast<float4*>(static_cast<float*>(tensor) + index) = make_float4(y[0], y[1], y[2], y[3]);
    } else if (type == OutputType::kHalf) {
      const __half2 pair[2] = {__floats2half2_rn(y[0], y[1]), __floats2half2_rn(y[2], y[3])};
      *reinterpret_cast<uint2*>(static_cast<__half*>(tensor) + index) = *reinterpret_cast<const uint2*>(pair);
    } else {
      const __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(y[0], y[1]), __floats2bfloat162_rn(y[2], y[3])};
      *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(tensor) + index) = *reinterpret_cast<const uint2*>(pair);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i >= count) break;
    if (type == OutputType::kFloat) {
      static_cast<float*>(tensor)[index + i] = y[i];
    } else if (type == OutputType::kHalf) {
      static_cast<__half*>(tensor)[index + i] = __float2half_rn(y[i]);
    } else {
      static_cast<__nv_bfloat16*>(tensor)[index + i] = __float2bfloat16_rn(y[i]);
    }
  }
}

/// Runs of four outputs in 64; a thread of the warpgroup finishes one run of each of its tokens.
constexpr int kRuns = kBlockRows / 4;

/// Constants of four outputs.
struct OutputColumns {
  int64_t n;
  int count;  ///< how many of the four exist; <= 0: none
  float scale[4] = {}, bias[4] = {};
  int row_sum[4] = {};

  __device__ __forceinline__ OutputColumns(const PackedWeights& w, int64_t first)
      : n(first), count(static_cast<int>(min(int64_t{4}, w.n - first))) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= count) break;
      if (w.scale) scale[i] = w.scale[n + i];
      if (w.bias) bias[i] = w.bias[n + i];
      if (w.row_sum) row_sum[i] = w.row_sum[n + i];
    }
  }
};

/// Scales four accumulators of one token and stores them.
__device__ __forceinline__ void finish(const GemmProblem& p, const OutputColumns& columns, int64_t token, int4 sum,
                                       bool aligned) {
  const int acc[4] = {sum.x, sum.y, sum.z, sum.w};
  const int64_t index = token * p.out_stride + columns.n;
  if (p.output == OutputType::kAccumulator) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < columns.count) static_cast<int*>(p.out)[index + i] = acc[i];
    }
    return;
  }
  const float token_scale = p.token_scale[token];
  const int zero = p.token_zero ? p.token_zero[token] : 0;
  float y[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float value = static_cast<float>(acc[i] - zero * columns.row_sum[i]);
    y[i] = __fmul_rn(__fmul_rn(value, columns.scale[i]), token_scale);
    if (p.weights.bias) y[i] = __fadd_rn(y[i], columns.bias[i]);
    if (p.residual && i < columns.count) y[i] = __fadd_rn(y[i], load_output(p.residual, p.output, index + i));
  }
  store_outputs(p.out, p.output, index, y, columns.count, aligned);
}

/// Scales and stores this block's share of 64 outputs x kTokens tokens from the transposed slots. A thread keeps its
/// four outputs and walks over tokens.
template <int kShift, class T>
__device__ __forceinline__ void finish_share(const GemmProblem& p, const SharedMemory<T>& shared,
                                             const Ownership<T>& own, const Consumer& me, const OutputColumns& columns,
                                             int64_t first_token) {
  const int thread = me.thread(), run = thread % kRuns;
  if (columns.count <= 0) return;
  const bool aligned = p.weights.n % 4 == 0 && p.out_stride % 4 == 0;
  const int count = own.count();
  constexpr int kUnroll = T::kBlocksPerSm == 2 ? 1 : 4;  // loads in flight, where there are registers for them
#pragma unroll kUnroll
  for (int number = 0; number < count; ++number) {
    const int64_t token = first_token + kSlotTokens * (number * own.split + own.rank) + thread / kRuns;
    if (token >= p.m) continue;
    const int* words = reinterpret_cast<const int*>(shared.slot(me.group, own.transpose_slot(number)));
    int4 sum = *reinterpret_cast<const int4*>(words + transposed_index(thread / kRuns, 4 * run));
    sum = make_int4(sum.x >> kShift, sum.y >> kShift, sum.z >> kShift, sum.w >> kShift);
    finish(p, columns, token, sum, aligned);
  }
}

/// Brings the constants of the tile's outputs near while the products run.
template <class T>
__device__ __forceinline__ void prefetch_columns(const PackedWeights& w, int64_t first_row, const Consumer& me) {
  const int thread = me.group * 128 + me.thread();
  const int64_t row = first_row + thread;
  if (thread >= T::kRows || row >= w.n) return;
  if (w.scale) ptx::prefetch_to_l2(w.scale + row);
  if (w.bias) ptx::prefetch_to_l2(w.bias + row);
  if (w.row_sum) ptx::prefetch_to_l2(w.row_sum + row);
}

/// Adds up one output tile's run of K; the accumulators are complete on return.
template <class Weights, class T>
__device__ __forceinline__ void accumulate_tile(const SharedMemory<T>& shared, const WorkRange& work,
                                                const Consumer& me, RingCursor<T::kStages>& ring,
                                                Accumulators<T>& acc) {
  uint32_t fragment[2][2][4];
  int previous = -1;
#pragma unroll 1
  for (int k = work.k_begin; k < work.k_end; ++k, ring.advance()) {
    ptx::mbarrier_wait(shared.full(ring.stage), ring.parity);
    multiply_stage<Weights, T>(shared.stage(ring.stage), me, k > work.k_begin, acc, fragment, [&] {
      if (previous >= 0 && me.lane == 0) ptx::mbarrier_arrive(shared.empty(previous));
    });
    previous = ring.stage;
  }
  wgmma_wait<0>();
  if (me.lane == 0) ptx::mbarrier_arrive(shared.empty(previous));
}

template <class Weights, class T>
__device__ __forceinline__ void consume(const GemmParams& p, const SharedMemory<T>& shared, const WorkRange& work,
                                        const Consumer& me) {
  const Ownership<T> own{work.split, work.rank};
  RingCursor<T::kStages> ring;
  uint32_t round = 0;
#pragma unroll 1
  for (int index = work.first; index < work.end; index += work.step) {
    const TileIndex tile = tile_at(p, index);
    const int64_t first_row = static_cast<int64_t>(tile.row) * T::kRows;
    prefetch_columns<T>(p.problem.weights, first_row, me);
    Accumulators<T> acc;
    accumulate_tile<Weights, T>(shared, work, me, ring, acc);
#pragma unroll
    for (int j = 0; j < T::kRowBlocks; ++j, ++round) {
      const int64_t row = first_row + (me.group * T::kRowBlocks + j) * kBlockRows;
      const OutputColumns columns(p.problem.weights, row + me.lane % kRuns * 4);
      if (own.split > 1) {
        send_sums(shared, own, me, round, acc[j]);
        receive_sums(shared, own, me, round, acc[j]);
      }
      ptx::group_sync(1 + me.group);  // the slots have been read
      transpose<T>(shared, own, me, acc[j]);
      ptx::group_sync(1 + me.group);
      finish_share<Weights::kShift>(p.problem, shared, own, me, columns, static_cast<int64_t>(tile.token) * T::kTokens);
    }
  }
  // Shared memory must outlive what the cluster sends.
  if (own.receivers() > 0) ptx::mbarrier_wait(shared.read(me.group), (round - 1) & 1);
}

/// By one warp, a lane a barrier.
template <class T>
__device__ __forceinline__ void init_barriers(const SharedMemory<T>& shared, const Ownership<T>& own, int lane) {
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
    init_barriers(shared, Ownership<T>{work.split, work.rank}, lane);
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
