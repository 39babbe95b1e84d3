// Fused norm or product, input map and per-token quantization. A block of threads takes a row into registers,
// so that x is read once, whatever number of reductions the source needs.
//   traffic   M K (2 + 1) bytes for 16-bit rows (+ 2 for `up`)
//   bound     by memory, as long as a thread needs little more than 300 instructions for 32 inputs. Hence a
//             kernel for every source, type of constants and whole rows: nothing is decided at run time. A
//             map needs the whole row at hand: it goes through shared memory, and instructions are the bound
//   latency   all of a thread's loads are issued before anything else; every run of eight inputs is a chain
//             of additions and maxima of its own
#include <algorithm>

#include "tessera/kernels/cuda/activation_kernels.cuh"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/launch.cuh"

namespace tessera::cuda {
namespace {

struct Launch {
  const ActivationProblem& problem;
  cudaStream_t stream;
  bool overlap_previous;

  /// As many threads a block as hold a row's inputs and columns, kRuns runs each.
  template <int kRuns>
  void enqueue(void (*kernel)(ActivationProblem), int64_t blocks, int64_t shared = 0) const {
    constexpr int64_t kPart = kRuns * kWarpRun;
    launch(kernel,
           {.blocks = blocks,
            .threads = static_cast<int>((std::max(problem.k, problem.inputs) + kPart - 1) / kPart * 32),
            .shared = static_cast<int>(shared),
            .stream = stream,
            .overlap_previous = overlap_previous},
           problem);
  }
};

/// kBlocks blocks of kMaxWarps warps are to fit on a multiprocessor: few where a thread needs many registers.
template <class In, ActivationSource kSource, class Norm, int kRuns, int kMaxWarps, int kBlocks>
void launch_rows(const Launch& launch) {
  const ActivationProblem& p = launch.problem;
  const bool whole = p.inputs % (kRuns * kWarpRun) == 0;
  if constexpr (kSource == ActivationSource::kLayerNorm && !std::is_same_v<In, float>) {
    const int64_t resident = int64_t{kBlocks} * device_attribute(cudaDevAttrMultiProcessorCount);
    launch.template enqueue<kRuns>(whole ? quantize_layer_norms<In, Norm, true, kRuns, kMaxWarps, kBlocks>
                                         : quantize_layer_norms<In, Norm, false, kRuns, kMaxWarps, kBlocks>,
                                   std::min(p.m, resident));
  } else {
    launch.template enqueue<kRuns>(whole ? quantize_rows<In, kSource, Norm, true, kRuns, kMaxWarps, kBlocks>
                                         : quantize_rows<In, kSource, Norm, false, kRuns, kMaxWarps, kBlocks>,
                                   p.m);
  }
}

template <class In, ActivationSource kSource, class Norm>
void launch_rows_by_width(const Launch& launch) {
  const int64_t width = launch.problem.inputs;
  if constexpr (std::is_same_v<In, float>) {  // the residual stream: twice the registers an input
    if (width <= 8192) return launch_rows<In, kSource, Norm, 2, 16, 2>(launch);
  } else if constexpr (kSource == ActivationSource::kSiluProduct || kSource == ActivationSource::kActivated) {
    if (width <= 4096) return launch_rows<In, kSource, Norm, 2, 8, 4>(launch);
    if (width <= 12288) return launch_rows<In, kSource, Norm, 2, 24, 2>(launch);
  } else if constexpr (kSource == ActivationSource::kLayerNorm) {
    if (width <= 4096) return launch_rows<In, kSource, Norm, 4, 4, 4>(launch);
    if (width <= 16384) return launch_rows<In, kSource, Norm, 4, 16, 1>(launch);
  } else if constexpr (kSource == ActivationSource::kAttention) {  // spans of float
    if (width <= 8192) return launch_rows<In, kSource, Norm, 1, kMostWarps, 1>(launch);
  } else {
    if (width <= 4096) return launch_rows<In, kSource, Norm, 4, 4, 8>(launch);
  }
  launch_rows<In, kSource, Norm, 4, kMostWarps, 1>(launch);
}

template <class In, ActivationSource kSource, class Norm, bool kMixed>
void launch_columns(const Launch& launch) {
  const ActivationProblem& p = launch.problem;
  const size_t value = kSource == ActivationSource::kPlain ? sizeof(In) : sizeof(float);
  const int64_t shared = p.inputs * static_cast<int64_t>(value);
  if (std::max(p.k, p.inputs) <= 16384) {
    launch.template enqueue<2>(quantize_columns<In, kSource, Norm, kMixed, 2>, p.m, shared);
  } else {
    launch.template enqueue<4>(quantize_columns<In, kSource, Norm, kMixed, 4>, p.m, shared);
  }
}

template <class In, ActivationSource kSource, class Norm>
void launch_halves(const Launch& launch) {
  const ActivationProblem& p = launch.problem;
  if (p.inputs <= 8192) return launch.template enqueue<1>(write_rows<In, kSource, Norm, 1>, p.m);
  launch.template enqueue<4>(write_rows<In, kSource, Norm, 4>, p.m);
}

template <class In, ActivationSource kSource, class Norm>
void launch_source(const Launch& launch) {
  const ActivationProblem& p = launch.problem;
  if (p.halves) return launch_halves<In, kSource, Norm>(launch);
  if (p.map.gain || p.map.offset || p.map.repeat) return launch_columns<In, kSource, Norm, true>(launch);
  if (p.map.index || p.outliers.count > 0 || !p.symmetric || p.static_scale > 0)
    return launch_columns<In, kSource, Norm, false>(launch);
  launch_rows_by_width<In, kSource, Norm>(launch);
}

template <class In>
void launch_type(const Launch& launch) {
  using enum ActivationSource;
  const bool wide = launch.problem.norm_type == OutputType::kFloat;
  switch (launch.problem.source) {
    case kPlain:
      return launch_source<In, kPlain, In>(launch);
    case kSiluProduct:
      return launch_source<In, kSiluProduct, In>(launch);
    case kActivated:
      return launch_source<In, kActivated, In>(launch);
    case kAttention:
      if constexpr (std::is_same_v<In, __half>) launch_source<In, kAttention, In>(launch);
      return;
    case kRmsNorm:
      return wide ? launch_source<In, kRmsNorm, float>(launch) : launch_source<In, kRmsNorm, In>(launch);
    case kLayerNorm:
      return wide ? launch_source<In, kLayerNorm, float>(launch) : launch_source<In, kLayerNorm, In>(launch);
  }
}

}  // namespace

void launch_activation(const ActivationProblem& problem, cudaStream_t stream, bool overlap_previous) {
  ActivationProblem p = problem;
  p.inputs = problem.width();
  const Launch launch{p, stream, overlap_previous};
  switch (p.type) {
    case OutputType::kFloat:
      return launch_type<float>(launch);
    case OutputType::kHalf:
      return launch_type<__half>(launch);
    default:
      return launch_type<__nv_bfloat16>(launch);
  }
}

}  // namespace tessera::cuda
