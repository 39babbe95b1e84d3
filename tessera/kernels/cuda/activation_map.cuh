// The columns that are quantized, picked or mixed from a row in shared memory, and outliers, picked from it.
#pragma once

#include "tessera/kernels/cuda/activation.h"
#include "tessera/kernels/cuda/activation_row.cuh"

namespace tessera::cuda {

/// The inputs that this thread's columns are; theirs in turn where there is no map.
template <int kRuns>
__device__ __forceinline__ Row<int32_t, kRuns> load_picks(const ActivationProblem& p) {
  Row<int32_t, kRuns> index;
  if (p.map.index) {
    index.template load<false>(p.map.index, static_cast<int>(p.k));
    return index;
  }
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
#pragma unroll
    for (int j = 0; j < kRun; ++j) index.word[i][j] = index.first(i) + j;
  }
  return index;
}

/// Column c of a map. Not inlined: there is a call for each of a thread's columns.
template <class V>
__device__ __noinline__ float mixed(const ChannelMap& map, const V* row, int c) {
  const int begin = map.offset ? map.offset[c] : c, end = map.offset ? map.offset[c + 1] : c + 1;
  float sum = 0;
  for (int i = begin; i < end; ++i) {
    const float value = to_float(row[map.index ? map.index[i] : i]);
    sum = __fadd_rn(sum, map.gain ? __fmul_rn(map.gain[i], value) : value);
  }
  return sum;
}

/// This thread's columns of the row in shared memory: any map's, or without gains and sums those of `index`.
template <bool kMixed, class V, int kRuns>
__device__ __forceinline__ Row<float, kRuns> map_columns(const ActivationProblem& p, const V* row,
                                                         const Row<int32_t, kRuns>& index) {
  Row<float, kRuns> columns;
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    if (!columns.exists(i, static_cast<int>(p.k))) continue;
    float values[kRun];
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      values[j] = kMixed ? mixed(p.map, row, columns.first(i) + j) : to_float(row[index.word[i][j]]);
    }
    columns.set(i, values);
  }
  return columns;
}

/// The input that is this thread's first outlier.
__device__ __forceinline__ int first_outlier(const OutlierGather& outliers) {
  const int f = static_cast<int>(threadIdx.x);
  return f < static_cast<int>(outliers.count) ? outliers.index[f] : 0;
}

/// Copies the outliers of the row in shared memory out; `pick` is this thread's first.
template <class V>
__device__ __forceinline__ void gather_outliers(const OutlierGather& outliers, int64_t token, const V* row,
                                                int pick) {
  auto* const to = static_cast<__half*>(outliers.values) + token * outliers.stride;
  const int count = static_cast<int>(outliers.count), stride = static_cast<int>(outliers.stride);
  for (int f = static_cast<int>(threadIdx.x); f < stride;) {
    to[f] = __float2half_rn(f < count ? to_float(row[pick]) : 0.0f);
    f += static_cast<int>(blockDim.x);
    if (f < count) pick = outliers.index[f];
  }
}

}  // namespace tessera::cuda
