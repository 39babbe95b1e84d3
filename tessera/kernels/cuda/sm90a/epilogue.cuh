// From the accumulators of a 64-output block in registers to scaled outputs in device memory: the sum over
// the cluster, the transposition through shared memory, the arithmetic of gemm.h.
//
// The code is kept short on purpose: unrolled over all cases it had outgrown the instruction cache and cost
// 15 us a tile instead of 2 (H200).
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/scaling.cuh"
#include "tessera/kernels/cuda/sm90a/tile.cuh"

namespace tessera::cuda {

// --- sum over the cluster ------------------------------------------------------------------------------

/// The groups of 8 tokens in a tile that this block finishes: rank, rank + split, ...; group i is number i /
/// split.
template <class T>
struct Ownership {
  static constexpr int kGroups = T::kTokens / kSlotTokens;
  int split, rank, shift;

  __device__ __forceinline__ Ownership(int cluster_split, int cluster_rank)
      : split(cluster_split),
        rank(cluster_rank),
        shift((cluster_split >= 2) + (cluster_split >= 4) + (cluster_split >= 8)) {}
  __device__ __forceinline__ bool owns(int block, int group) const { return (group & (split - 1)) == block; }
  __device__ __forceinline__ int number(int group) const { return group >> shift; }
  /// Groups a block finishes, at most and exactly.
  __device__ __forceinline__ int most() const { return (kGroups + split - 1) >> shift; }
  __device__ __forceinline__ int count() const { return (kGroups - rank + split - 1) >> shift; }
  /// Other blocks that own groups: those that this block sends to.
  __device__ __forceinline__ int receivers() const { return min(split, kGroups) - (rank < kGroups ? 1 : 0); }
  /// The first slot in which block `owner` receives from this block; then one a group.
  __device__ __forceinline__ int first_slot_at(int owner) const { return (rank - (rank > owner)) * most(); }
  /// The first slot in which this block transposes its groups: behind those that it receives.
  __device__ __forceinline__ int transpose_slot() const { return (split - 1) * most(); }
};

/// Sends the groups that others own. `round` counts the exchanges: the slots of the round before must have
/// been read.
template <class T>
__device__ __forceinline__ void send_sums(const SharedMemory<T>& shared, const Ownership<T>& own,
                                          const Consumer& me, uint32_t round,
                                          const int (&d)[T::kTokens / 2]) {
  if (round == 0) ptx::cluster_wait();  // everybody has started
  if (own.receivers() > 0 && round > 0) ptx::mbarrier_wait(shared.read(me.group), (round - 1) & 1);
#pragma unroll 1
  for (int owner = 0; owner < own.split; ++owner) {
    if (owner == own.rank) continue;
    const uint32_t local =
        ptx::shared_address(shared.slot(me.group, own.first_slot_at(owner))) + me.thread() * 16;
    const uint32_t to = ptx::map_shared(local, owner);
    const uint32_t barrier = ptx::map_shared(shared.received(me.group), owner);
#pragma unroll
    for (int i = 0; i < own.kGroups; ++i) {
      if (!own.owns(owner, i)) continue;
      ptx::store_remote(to + own.number(i) * kSlotBytes, d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3],
                        barrier);
    }
  }
}

/// Adds what others sent to the groups that this block owns, then tells the senders. A block that owns
/// nothing tells nothing: its peers' barriers then advance no further than they wait for.
template <class T>
__device__ __forceinline__ void receive_sums(const SharedMemory<T>& shared, const Ownership<T>& own,
                                             const Consumer& me, uint32_t round, int (&d)[T::kTokens / 2]) {
  if (own.count() == 0) return;
  if (me.thread() == 0) {
    ptx::mbarrier_arrive_expect(shared.received(me.group), (own.split - 1) * own.count() * kSlotBytes);
  }
  ptx::mbarrier_wait(shared.received(me.group), round & 1);
#pragma unroll 1
  for (int peer = 0; peer + 1 < own.split; ++peer) {
    const uint8_t* slots = shared.slot(me.group, peer * own.most()) + me.thread() * 16;
#pragma unroll
    for (int i = 0; i < own.kGroups; ++i) {
      if (!own.owns(own.rank, i)) continue;
      const int4 part = *reinterpret_cast<const int4*>(slots + own.number(i) * kSlotBytes);
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

// --- transposition -------------------------------------------------------------------------------------

/// Word of (token, row) in a transposed slot: rows are swizzled so that the fragment's stores meet no bank
/// conflict and aligned runs of four outputs stay together.
__device__ __forceinline__ int transposed_index(int token, int row) {
  return token * kBlockRows + (row ^ (token / 2 * 8));
}

/// Writes the groups that this block owns to shared memory, token by token; of a tile that is never split
/// only those from kFirst on that find room.
template <int kFirst, class T>
__device__ __forceinline__ void transpose(const SharedMemory<T>& shared, const Ownership<T>& own,
                                          const Consumer& me, const int (&d)[T::kTokens / 2]) {
  const int token = 2 * (me.lane % 4), row = 16 * me.warp + me.lane / 4;
  int* words = reinterpret_cast<int*>(shared.slot(me.group, own.transpose_slot()));
  int* low = words + transposed_index(token, row);
  int* high = words + transposed_index(token, row + 8);
#pragma unroll
  for (int i = kFirst; i < min(own.kGroups, kFirst + T::kSlots); ++i) {
    if (!own.owns(own.rank, i)) continue;
    const int at = (own.number(i) - kFirst) * (kSlotBytes / 4);
    low[at] = d[4 * i];
    low[at + kBlockRows] = d[4 * i + 1];
    high[at] = d[4 * i + 2];
    high[at + kBlockRows] = d[4 * i + 3];
  }
}

// --- scaling -------------------------------------------------------------------------------------------

/// Factors of the tokens that a thread brings into shared memory: thread, thread + 128, ...
template <class T>
using FactorsOfThread = TokenFactors[ceil_div(T::kTokens, 128)];

/// Loads early, so that the products hide the latency.
template <class T>
__device__ __forceinline__ void load_factors(const GemmProblem& p, int64_t first_token, const Consumer& me,
                                             FactorsOfThread<T>& factors) {
#pragma unroll
  for (int i = 0; i < ceil_div(T::kTokens, 128); ++i) {
    const int token = 128 * i + me.thread();
    if (token < T::kTokens && first_token + token < p.m) factors[i] = load_token(p, first_token + token);
  }
}

template <class T>
__device__ __forceinline__ void store_factors(const SharedMemory<T>& shared, const Consumer& me,
                                              const FactorsOfThread<T>& factors) {
#pragma unroll
  for (int i = 0; i < ceil_div(T::kTokens, 128); ++i) {
    const int token = 128 * i + me.thread();
    if (token >= T::kTokens) break;
    shared.token_scale(me.group)[token] = factors[i].scale;
    shared.token_zero(me.group)[token] = factors[i].zero;
  }
}

/// Brings the constants of the tile's outputs near while the products run.
template <class T>
__device__ __forceinline__ void prefetch_columns(const PackedWeights& w, int64_t first_row,
                                                 const Consumer& me) {
  const int thread = me.group * 128 + me.thread();
  const int64_t row = first_row + thread;
  if (thread >= T::kRows || row >= w.n) return;
  if (w.scale) ptx::prefetch_to_l2(w.scale + row);
  if (w.bias) ptx::prefetch_to_l2(w.bias + row);
  if (w.row_sum) ptx::prefetch_to_l2(w.row_sum + row);
}

/// Finishes this block's share, from its group `first` on, of kCount outputs from n on; `words` are their
/// accumulators of the share's first token of this thread, in the first transposed slot. Out is the output
/// type.
template <int kShift, class Out, int kCount, class T>
__device__ __forceinline__ void finish_columns(const GemmProblem& p, const SharedMemory<T>& shared,
                                               const Ownership<T>& own, const Consumer& me, int64_t n,
                                               const int* words, int first, int64_t first_token,
                                               int64_t end_token) {
  struct alignas(kCount * 4) Sums {
    int value[kCount];
  };
  const Columns<kCount> columns(p.weights, n);
  const int end = min(own.count(), first + T::kSlots);
  constexpr int kUnroll = kCount == 4 ? 2 : 1;
#pragma unroll kUnroll
  for (int number = first; number < end; ++number) {
    const int token = kSlotTokens * (number * own.split + own.rank) + me.thread() / kRuns;
    if (first_token + token >= end_token) break;
    const Sums sums = *reinterpret_cast<const Sums*>(words + (number - first) * (kSlotBytes / 4));
    const TokenFactors factors{shared.token_scale(me.group)[token], shared.token_zero(me.group)[token]};
    finish_outputs<kShift, Out>(p, columns, sums.value, factors, (first_token + token) * p.out_stride + n);
  }
}

/// A thread keeps a run of four outputs and walks over tokens; single outputs where four may not be stored at
/// once.
template <int kShift, class Out, class T>
__device__ __forceinline__ void finish_as(const GemmProblem& p, const SharedMemory<T>& shared,
                                          const Ownership<T>& own, const Consumer& me, int first,
                                          int64_t first_row, int64_t first_token, int64_t end_token) {
  const int run = me.thread() % kRuns;
  const int64_t n = first_row + 4 * run;
  const int* words = reinterpret_cast<const int*>(shared.slot(me.group, own.transpose_slot())) +
                     transposed_index(me.thread() / kRuns, 4 * run);
  if (whole_runs(p)) {
    if (n < p.weights.n)
      finish_columns<kShift, Out, 4>(p, shared, own, me, n, words, first, first_token, end_token);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < 4 && n + i < p.weights.n; ++i) {
    finish_columns<kShift, Out, 1>(p, shared, own, me, n + i, words + i, first, first_token, end_token);
  }
}

template <int kShift, class T>
__device__ __forceinline__ void finish_share(const GemmProblem& p, const SharedMemory<T>& shared,
                                             const Ownership<T>& own, const Consumer& me, int first,
                                             int64_t first_row, int64_t first_token, int64_t end_token) {
  switch (p.output) {
    case OutputType::kFloat:
      return finish_as<kShift, float>(p, shared, own, me, first, first_row, first_token, end_token);
    case OutputType::kHalf:
      return finish_as<kShift, __half>(p, shared, own, me, first, first_row, first_token, end_token);
    case OutputType::kBFloat16:
      return finish_as<kShift, __nv_bfloat16>(p, shared, own, me, first, first_row, first_token, end_token);
    case OutputType::kAccumulator:
      return finish_as<kShift, int>(p, shared, own, me, first, first_row, first_token, end_token);
  }
}

// --- 16-bit outputs ------------------------------------------------------------------------------------
//
// The usual case has a path of its own: sums are scaled in registers, transposed as pairs of bytes by
// stmatrix and stored 16 bytes a lane, half the traffic and a fifth of the time of the general path.

/// 16-bit outputs without a residual, in whole runs of eight.
__device__ __forceinline__ bool packs_outputs(const GemmProblem& p) {
  const bool narrow = p.output == OutputType::kHalf || p.output == OutputType::kBFloat16;
  return narrow && !p.residual && p.weights.n % 8 == 0 && p.out_stride % 8 == 0;
}

/// Constants of the two rows whose sums a thread holds.
struct RowConstants {
  float scale[2], bias[2];
  int row_sum[2];

  __device__ __forceinline__ RowConstants(const PackedWeights& w, int64_t first_row, const Consumer& me) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t row = first_row + 16 * me.warp + me.lane / 4 + 8 * i;
      const bool live = row < w.n;
      scale[i] = live ? w.scale[row] : 0;
      bias[i] = live && w.bias ? w.bias[row] : 0;
      row_sum[i] = live && w.row_sum ? w.row_sum[row] : 0;
    }
  }
};

/// Byte offset of eight outputs of a token in a packed tile [tokens][64]: the chunks of a token are swizzled,
/// so that neither stmatrix nor the loads meet a bank conflict.
__device__ __forceinline__ int packed_offset(int token, int chunk) {
  return token * (kBlockRows * 2) + (chunk ^ token % 8) * 16;
}

__device__ __forceinline__ uint32_t pack_pair(float low, float high, bool bfloat16) {
  const __half2 half = __floats2half2_rn(low, high);
  const __nv_bfloat162 brain = __floats2bfloat162_rn(low, high);
  return bfloat16 ? *reinterpret_cast<const uint32_t*>(&brain) : *reinterpret_cast<const uint32_t*>(&half);
}

/// Takes the zero points of the tokens off the sums, which then are no longer 2^kShift times too large.
template <int kShift, class T>
__device__ __forceinline__ void subtract_zeros(const SharedMemory<T>& shared, const Consumer& me,
                                               const RowConstants& rows, int (&d)[T::kTokens / 2]) {
  const int* zeros = shared.token_zero(me.group) + 2 * (me.lane % 4);
#pragma unroll
  for (int i = 0; i < T::kTokens / 2; ++i)
    d[i] = (d[i] >> kShift) - zeros[i / 4 * 8 + i % 2] * rows.row_sum[i / 2 % 2];
}

/// Scales the groups that this block owns and writes them to shared memory, token by token. Without zero
/// points the power of two goes into the scale, which changes no bit of the product.
template <int kShift, class T>
__device__ __forceinline__ void pack_outputs(const GemmProblem& p, const SharedMemory<T>& shared,
                                             const Ownership<T>& own, const Consumer& me,
                                             const RowConstants& rows, int (&d)[T::kTokens / 2]) {
  const bool bfloat16 = p.output == OutputType::kBFloat16, biased = p.weights.bias != nullptr;
  const float unit = p.token_zero ? 1 : 1.0f / (1 << kShift);
  const float row_scale[2] = {rows.scale[0] * unit, rows.scale[1] * unit};
  if (p.token_zero) subtract_zeros<kShift>(shared, me, rows, d);
  const float* scales = shared.token_scale(me.group) + 2 * (me.lane % 4);
  const uint32_t to = ptx::shared_address(shared.slot(me.group, own.transpose_slot())) +
                      packed_offset(me.lane % 8, 2 * me.warp + me.lane / 8 % 2);
#pragma unroll
  for (int i = 0; i < own.kGroups; ++i) {
    if (!own.owns(own.rank, i)) continue;
    const float2 scale = *reinterpret_cast<const float2*>(scales + 8 * i);
    float y[4];
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      y[v] = __fmul_rn(__fmul_rn(static_cast<float>(d[4 * i + v]), row_scale[v / 2]),
                       v % 2 == 0 ? scale.x : scale.y);
      if (biased) y[v] = __fadd_rn(y[v], rows.bias[v / 2]);
    }
    ptx::store_matrices_transposed(to + 8 * own.number(i) * kBlockRows * 2, pack_pair(y[0], y[1], bfloat16),
                                   pack_pair(y[2], y[3], bfloat16));
  }
}

/// Stores this block's share of a packed tile, 16 bytes a lane.
template <class T>
__device__ __forceinline__ void store_packed(const GemmProblem& p, const SharedMemory<T>& shared,
                                             const Ownership<T>& own, const Consumer& me, int64_t first_row,
                                             int64_t first_token, int64_t end_token) {
  constexpr int kChunks = kBlockRows / 8, kTokensAtOnce = 128 / kChunks;
  const int chunk = me.thread() % kChunks;
  const int64_t n = first_row + 8 * chunk;
  if (n >= p.weights.n) return;
  const uint8_t* from = shared.slot(me.group, own.transpose_slot());
  const int count = own.count() * kSlotTokens;
#pragma unroll 4
  for (int i = me.thread() / kChunks; i < count; i += kTokensAtOnce) {
    const int64_t token =
        first_token + (i / kSlotTokens * own.split + own.rank) * kSlotTokens + i % kSlotTokens;
    if (token >= end_token) break;
    const uint4 outputs = *reinterpret_cast<const uint4*>(from + packed_offset(i, chunk));
    *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.out) + token * p.out_stride + n) = outputs;
  }
}

}  // namespace tessera::cuda
