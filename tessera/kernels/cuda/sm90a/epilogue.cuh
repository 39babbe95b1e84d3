// From the accumulators of a 64-output block in registers to scaled outputs in device memory: the
// transposition through shared memory, the arithmetic of gemm.h.
//
// The code is kept short on purpose: unrolled over all cases it had outgrown the instruction cache and cost
// 15 us a tile instead of 2 (H200).
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/scaling.cuh"
#include "tessera/kernels/cuda/sm90a/exchange.cuh"
#include "tessera/kernels/cuda/sm90a/tile.cuh"

namespace tessera::cuda {

// --- transposition -------------------------------------------------------------------------------------

/// Word of (token, row) in a transposed slot: rows are swizzled so that the fragment's stores meet no bank
/// conflict and aligned runs of four outputs stay together.
__device__ __forceinline__ int transposed_index(int token, int row) {
  return token * kBlockOutputs + (row ^ (token / 2 * 8));
}

/// Writes sums to shared memory, token by token: from the group kFirst on, as far as there is room.
template <int kFirst, class T, class Own>
__device__ __forceinline__ void transpose(const SharedMemory<T>& shared, const Consumer& me,
                                          const GroupSums<Own::kMost>& sums) {
  const int token = 2 * (me.lane % 4), row = 16 * me.warp + me.lane / 4;
  int* words = reinterpret_cast<int*>(shared.slot(me.group, 0));
  int* low = words + transposed_index(token, row);
  int* high = words + transposed_index(token, row + 8);
#pragma unroll
  for (int i = kFirst; i < min(Own::kMost, kFirst + T::kSlots); ++i) {
    const int at = (i - kFirst) * (kSlotBytes / 4);
    low[at] = sums[4 * i];
    low[at + kBlockOutputs] = sums[4 * i + 1];
    high[at] = sums[4 * i + 2];
    high[at + kBlockOutputs] = sums[4 * i + 3];
  }
}

// --- scaling -------------------------------------------------------------------------------------------

/// Starts copying `count` words, if there are any; what lies behind them is not used.
template <int kCount, class Word>
__device__ __forceinline__ void fetch_words(Word (&to)[kCount], const Word* from, int count,
                                            const Consumer& me) {
  if (!from) return;
#pragma unroll
  for (int i = 0; i < ceil_div(kCount, 128); ++i) {
    const int at = 128 * i + me.thread();
    if (at < count) ptx::copy_word(ptx::shared_address(to + at), from + at);
  }
}

/// Starts fetching a warpgroup's constants, so that the products hide the latency. Absent ones (zero points,
/// biases, sums of rows) are left as they are.
template <class T>
__device__ __forceinline__ void fetch_constants(const GemmProblem& p, const SharedMemory<T>& shared,
                                                const Consumer& me, const TilePlace& tile) {
  typename T::Constants& constants = shared.constants(me.group);
  const auto tokens = static_cast<int>(tile.end_token - tile.first_token);
  const auto rows =
      static_cast<int>(min(p.weights.n - tile.first_row, int64_t{T::kRowBlocks * kBlockOutputs}));
  const auto fetch = [&](auto& to, const auto* from, int64_t first, int count) {
    fetch_words(to, from ? from + first : nullptr, count, me);
  };
  fetch(constants.token_scale, p.token_scale, tile.first_token, tokens);
  fetch(constants.token_zero, p.token_zero, tile.first_token, tokens);
  fetch(constants.scale, p.weights.scale, tile.first_row, rows);
  fetch(constants.bias, p.weights.bias, tile.first_row, rows);
  fetch(constants.row_sum, p.weights.row_sum, tile.first_row, rows);
}

/// Finishes this block's share, from its group `first` on, of kCount outputs from n on; `words` are their
/// accumulators of the share's first token of this thread, in the first transposed slot. Out is the output
/// type.
template <int kShift, class Out, int kCount, class T, class Own>
__device__ __forceinline__ void finish_columns(const GemmProblem& p, const SharedMemory<T>& shared,
                                               const Own& own, const Consumer& me, int64_t n,
                                               const int* words, int first, const TilePlace& tile) {
  struct alignas(kCount * 4) Sums {
    int value[kCount];
  };
  const Columns<kCount> columns(p.weights, n);
  const int end = min(own.count(), first + T::kSlots);
  constexpr int kUnroll = kCount == 4 ? 2 : 1;
#pragma unroll kUnroll
  for (int number = first; number < end; ++number) {
    const int token = own.token(number) + me.thread() / kRuns;
    if (tile.first_token + token >= tile.end_token) break;
    const Sums sums = *reinterpret_cast<const Sums*>(words + (number - first) * (kSlotBytes / 4));
    const typename T::Constants& constants = shared.constants(me.group);
    const TokenFactors factors{constants.token_scale[token], p.token_zero ? constants.token_zero[token] : 0};
    finish_outputs<kShift, Out>(p, columns, sums.value, factors,
                                (tile.first_token + token) * p.out_stride + n);
  }
}

/// A thread keeps a run of four outputs and walks over tokens; single outputs where four may not be stored at
/// once.
template <int kShift, class Out, class T, class Own>
__device__ __forceinline__ void finish_as(const GemmProblem& p, const SharedMemory<T>& shared, const Own& own,
                                          const Consumer& me, int first, const TilePlace& tile) {
  const int run = me.thread() % kRuns;
  const int64_t n = tile.first_row + 4 * run;
  const int* words =
      reinterpret_cast<const int*>(shared.slot(me.group, 0)) + transposed_index(me.thread() / kRuns, 4 * run);
  if (whole_runs(p)) {
    if (n < p.weights.n) finish_columns<kShift, Out, 4>(p, shared, own, me, n, words, first, tile);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < 4 && n + i < p.weights.n; ++i) {
    finish_columns<kShift, Out, 1>(p, shared, own, me, n + i, words + i, first, tile);
  }
}

template <int kShift, class T, class Own>
__device__ __forceinline__ void finish_share(const GemmProblem& p, const SharedMemory<T>& shared,
                                             const Own& own, const Consumer& me, int first,
                                             const TilePlace& tile) {
  switch (p.output) {
    case OutputType::kFloat:
      return finish_as<kShift, float>(p, shared, own, me, first, tile);
    case OutputType::kHalf:
      return finish_as<kShift, __half>(p, shared, own, me, first, tile);
    case OutputType::kBFloat16:
      return finish_as<kShift, __nv_bfloat16>(p, shared, own, me, first, tile);
    case OutputType::kAccumulator:
      return finish_as<kShift, int>(p, shared, own, me, first, tile);
  }
}

// --- 16-bit outputs ------------------------------------------------------------------------------------
//
// The usual case (see packs_outputs) has a path of its own: sums are scaled in registers, transposed as pairs
// of bytes by stmatrix, and stored by a tensor copy that runs beside the next tile's products; by the threads
// where blocks of a cluster share the tile.

/// Constants of the two rows whose sums a thread holds. Without a bias -0 is added, which changes nothing.
struct RowConstants {
  float scale[2], bias[2];
  int row_sum[2];

  template <class Constants>
  __device__ __forceinline__ RowConstants(const Constants& from, bool biased, int first_row,
                                          const Consumer& me) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + 16 * me.warp + me.lane / 4 + 8 * i;
      scale[i] = from.scale[row];
      bias[i] = biased ? from.bias[row] : -0.0f;
      row_sum[i] = from.row_sum[row];
    }
  }
};

/// Byte offset of eight outputs of a token in a packed tile [tokens][64]: the chunks of a token are swizzled,
/// so that neither stmatrix nor the loads meet a bank conflict.
__device__ __forceinline__ int packed_offset(int token, int chunk) {
  return token * (kBlockOutputs * 2) + (chunk ^ token % 8) * 16;
}

template <class Out>
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
  if constexpr (std::is_same_v<Out, __half>) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
}

/// Takes the zero points of the tokens off the sums, which then are no longer 2^kShift times too large.
template <int kShift, class T, class Own>
__device__ __forceinline__ void subtract_zeros(const int (&zeros)[T::kTokens], const Own& own,
                                               const Consumer& me, const RowConstants& rows,
                                               GroupSums<Own::kMost>& sums) {
#pragma unroll
  for (int i = 0; i < 4 * Own::kMost; ++i) {
    if (i / 4 == own.count()) break;
    sums[i] =
        (sums[i] >> kShift) - zeros[own.token(i / 4) + 2 * (me.lane % 4) + i % 2] * rows.row_sum[i / 2 % 2];
  }
}

/// Scales sums and writes them to shared memory, token by token, from `to` on.
template <class Out, class T, class Own>
__device__ __forceinline__ void pack_groups(const float (&token_scale)[T::kTokens], const Own& own,
                                            const Consumer& me, const RowConstants& rows, uint8_t* to,
                                            const GroupSums<Own::kMost>& sums) {
  const uint32_t first = ptx::shared_address(to) + packed_offset(me.lane % 8, 2 * me.warp + me.lane / 8 % 2);
  constexpr int kAtOnce = 8;  // scales that are loaded before any is used
#pragma unroll
  for (int batch = 0; batch < Own::kMost; batch += kAtOnce) {
    float2 scale[kAtOnce];
#pragma unroll
    for (int i = batch; i < min(batch + kAtOnce, Own::kMost); ++i)
      scale[i - batch] = *reinterpret_cast<const float2*>(token_scale + own.token(i) + 2 * (me.lane % 4));
#pragma unroll
    for (int i = batch; i < min(batch + kAtOnce, Own::kMost); ++i) {
      if (i == own.count()) break;
      float y[4];
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        y[v] = __fmul_rn(static_cast<float>(sums[4 * i + v]), rows.scale[v / 2]);
        y[v] = __fmul_rn(y[v], v % 2 == 0 ? scale[i - batch].x : scale[i - batch].y);
        y[v] = __fadd_rn(y[v], rows.bias[v / 2]);
      }
      ptx::store_matrices_transposed(first + i * (kSlotTokens * kBlockOutputs * 2),
                                     pack_pair<Out>(y[0], y[1]), pack_pair<Out>(y[2], y[3]));
    }
  }
}

/// The same for either type, of the j-th 64-row block of this warpgroup. Without zero points the power of two
/// goes into the scale, which changes no bit of the product.
template <int kShift, class T, class Own>
__device__ __forceinline__ void pack_outputs(const GemmProblem& p, const SharedMemory<T>& shared,
                                             const Own& own, const Consumer& me, int j, uint8_t* to,
                                             GroupSums<Own::kMost>& sums) {
  const typename T::Constants& constants = shared.constants(me.group);
  RowConstants rows(constants, p.weights.bias != nullptr, j * kBlockOutputs, me);
  if (p.token_zero) {
    subtract_zeros<kShift, T>(constants.token_zero, own, me, rows, sums);
  } else {
    rows.scale[0] *= 1.0f / (1 << kShift);
    rows.scale[1] *= 1.0f / (1 << kShift);
  }
  if (p.output == OutputType::kHalf) {
    pack_groups<__half, T>(constants.token_scale, own, me, rows, to, sums);
  } else {
    pack_groups<__nv_bfloat16, T>(constants.token_scale, own, me, rows, to, sums);
  }
}

/// Stores a packed share, 16 bytes a lane.
template <class Own>
__device__ __forceinline__ void store_packed(const GemmProblem& p, const Own& own, const Consumer& me,
                                             const TilePlace& tile, const uint8_t* from) {
  constexpr int kChunks = kBlockOutputs / 8, kTokensAtOnce = 128 / kChunks;
  const int chunk = me.thread() % kChunks;
  const int64_t n = tile.first_row + 8 * chunk;
  if (n >= p.weights.n) return;
  const int count = own.count() * kSlotTokens;
#pragma unroll 4
  for (int i = me.thread() / kChunks; i < count; i += kTokensAtOnce) {
    const int64_t token = tile.first_token + own.token(i / kSlotTokens) + i % kSlotTokens;
    if (token >= tile.end_token) break;
    const uint4 outputs = *reinterpret_cast<const uint4*>(from + packed_offset(i, chunk));
    *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.out) + token * p.out_stride + n) = outputs;
  }
}

}  // namespace tessera::cuda
