// The kernels of the activation quantizer.
#pragma once

#include "tessera/kernels/cuda/activation_codes.cuh"
#include "tessera/kernels/cuda/activation_map.cuh"
#include "tessera/kernels/cuda/activation_source.cuh"

namespace tessera::cuda {

constexpr int kMostWarps = 32;  ///< of a block

/// Symmetric codes of a source's rows, a block a row.
template <class In, ActivationSource kSource, class Norm, bool kWhole, int kRuns, int kMaxWarps, int kBlocks>
__global__ void __launch_bounds__(32 * kMaxWarps, kBlocks)
    quantize_rows(const __grid_constant__ ActivationProblem p) {
  constexpr bool kPlain = kSource == ActivationSource::kPlain;
  constexpr bool kExact = kPlain || kSource == ActivationSource::kAttention;  // rows of half either way
  __shared__ typename Reducer<kMaxWarps>::Scratch scratch;
  Reducer<kMaxWarps> reduce(scratch);
  ptx::launch_dependents();
  Row<std::conditional_t<kPlain, In, float>, kRuns> row;
  const float factor = load_row<kSource, Norm, kWhole, In>(p, blockIdx.x, reduce, row);
  quantize_symmetric<kWhole, kExact>(p, blockIdx.x, factor, reduce, row);
}

/// The same of LayerNorm, whose two constants an input cost more than the row: blocks walk over rows and keep
/// them in registers. The next row is on its way while one is worked on.
template <class In, class Norm, bool kWhole, int kRuns, int kMaxWarps, int kBlocks>
__global__ void __launch_bounds__(32 * kMaxWarps, kBlocks)
    quantize_layer_norms(const __grid_constant__ ActivationProblem p) {
  __shared__ typename Reducer<kMaxWarps>::Scratch scratch;
  Reducer<kMaxWarps> reduce(scratch);
  ptx::launch_dependents();
  NormConstants<Norm, kRuns> constants;
  constants.template load<kWhole>(p);
  ptx::wait_for_predecessors();
  Row<In, kRuns> next;
  load_input<kWhole>(p, p.x, blockIdx.x, next);
#pragma unroll 1
  for (int64_t token = blockIdx.x; token < p.m; token += gridDim.x) {
    Row<float, kRuns> row = next.floats();
    if (token + gridDim.x < p.m) load_input<kWhole>(p, p.x, token + gridDim.x, next);
    layer_norm<kWhole>(p, reduce, constants, row);
    quantize_symmetric<kWhole, false>(p, token, 1, reduce, row);
  }
}

/// Codes of any kind of a row's columns, and its outliers, a block a row. Needs dynamic shared memory of a
/// row, of floats but for plain rows.
template <class In, ActivationSource kSource, class Norm, bool kMixed, int kRuns>
__global__ void __launch_bounds__(32 * kMostWarps)
    quantize_columns(const __grid_constant__ ActivationProblem p) {
  constexpr bool kPlain = kSource == ActivationSource::kPlain;
  using V = std::conditional_t<kPlain, In, float>;
  __shared__ typename Reducer<kMostWarps>::Scratch scratch;
  extern __shared__ __align__(16) uint8_t shared[];
  auto* const staged = reinterpret_cast<V*>(shared);
  Reducer<kMostWarps> reduce(scratch);
  const int64_t token = blockIdx.x;
  ptx::launch_dependents();
  Row<V, kRuns> row;
  const float factor = load_row<kSource, Norm, false, In>(p, token, reduce, row);
  if constexpr (!kPlain) row = row.floats(factor);
  Row<int32_t, kRuns> index;
  if (!kMixed) index = load_picks<kRuns>(p);
  const int outlier = first_outlier(p.outliers);
  row.store(staged, static_cast<int>(p.inputs));
  __syncthreads();
  if (p.outliers.count > 0) gather_outliers(p.outliers, token, staged, outlier);
  Row<float, kRuns> columns = map_columns<kMixed>(p, staged, index);
  const uint8_t* const repeat = kMixed ? p.map.repeat : nullptr;
  if (!p.symmetric) return quantize_asymmetric<false>(p, token, reduce, columns, repeat);
  if (p.static_scale > 0) return quantize_static<false>(p, token, reduce, columns, repeat);
  quantize_symmetric<false, true>(p, token, 1, reduce, columns, repeat);
}

/// A source's rows as half, a block a row.
template <class In, ActivationSource kSource, class Norm, int kRuns>
__global__ void __launch_bounds__(32 * kMostWarps) write_rows(const __grid_constant__ ActivationProblem p) {
  __shared__ typename Reducer<kMostWarps>::Scratch scratch;
  Reducer<kMostWarps> reduce(scratch);
  ptx::launch_dependents();
  Row<float, kRuns> row;
  float factor = 1;
  if constexpr (kSource == ActivationSource::kPlain) {
    Row<In, kRuns> x;
    load_row<kSource, Norm, false, In>(p, blockIdx.x, reduce, x);
    row = x.floats();
  } else {
    factor = load_row<kSource, Norm, false, In>(p, blockIdx.x, reduce, row);
  }
  auto* const to = static_cast<__half*>(p.halves) + blockIdx.x * p.halves_stride + row.first();
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    if (!row.exists(i, static_cast<int>(p.k))) continue;
    float y[kRun];
    row.get(i, y);
    alignas(16) __half2 pairs[kRun / 2];
#pragma unroll
    for (int j = 0; j < kRun / 2; ++j) pairs[j] = __floats2half2_rn(y[2 * j] * factor, y[2 * j + 1] * factor);
    *reinterpret_cast<uint4*>(to + i * kWarpRun) = *reinterpret_cast<const uint4*>(pairs);
  }
}

}  // namespace tessera::cuda
