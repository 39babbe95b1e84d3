// Fused norm or product and per-token quantization: a block of threads takes a row into registers, so that x
// is read once, whatever number of reductions the source needs.
//   traffic  M K (2 + 1) bytes for 16-bit rows (+ 2 for `up`); bound by it from a few hundred rows on
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "tessera/kernels/cuda/activation.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kRun = 8;  ///< a thread holds runs of eight inputs

__device__ __forceinline__ void to_floats(const float* from, float (&to)[kRun]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0],
               high = reinterpret_cast<const float4*>(from)[1];
  const float values[kRun] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
  for (int i = 0; i < kRun; ++i) to[i] = values[i];
}
__device__ __forceinline__ void to_floats(const __half* from, float (&to)[kRun]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  const auto* values = reinterpret_cast<const __half*>(&raw);
#pragma unroll
  for (int i = 0; i < kRun; ++i) to[i] = __half2float(values[i]);
}
__device__ __forceinline__ void to_floats(const __nv_bfloat16* from, float (&to)[kRun]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  const auto* values = reinterpret_cast<const __nv_bfloat16*>(&raw);
#pragma unroll
  for (int i = 0; i < kRun; ++i) to[i] = __bfloat162float(values[i]);
}

struct Sum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// Reductions of one value a thread over the block, the same in every thread. Two buffers take turns, so that
/// one barrier each suffices.
class Reducer {
 public:
  __device__ __forceinline__ explicit Reducer(float (&scratch)[2][kWarps]) : scratch_(scratch) {}

  template <class Combine>
  __device__ __forceinline__ float operator()(float value, Combine combine) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      value = combine(value, __shfl_xor_sync(~0u, value, distance));
    }
    if (threadIdx.x % 32 == 0) scratch_[turn_][threadIdx.x / 32] = value;
    __syncthreads();
    value = scratch_[turn_][threadIdx.x % kWarps];
#pragma unroll
    for (int distance = kWarps / 2; distance > 0; distance /= 2) {
      value = combine(value, __shfl_xor_sync(~0u, value, distance));
    }
    turn_ ^= 1;
    return value;
  }

 private:
  float (&scratch_)[2][kWarps];
  int turn_ = 0;
};

/// A thread's part of a row: run i holds inputs 8 (i kThreads + thread) .. + 7. Inputs beyond K are 0.
template <int kRuns>
struct Row {
  float y[kRuns][kRun];

  static __device__ __forceinline__ int64_t input(int run) {
    return kRun * (static_cast<int64_t>(run) * kThreads + threadIdx.x);
  }
  template <class Function>
  __device__ __forceinline__ void for_runs(int64_t k, Function function) {
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      if (input(i) < k) function(y[i], input(i));
    }
  }
  template <class Function>
  __device__ __forceinline__ float sum_of(Function function) const {
    float total = 0;
#pragma unroll
    for (int i = 0; i < kRuns * kRun; ++i) total += function(y[i / kRun][i % kRun]);
    return total;
  }
};

template <class In, int kRuns>
__device__ __forceinline__ void apply_source(const ActivationProblem& p, int64_t offset, Reducer& reduce,
                                             Row<kRuns>& row) {
  const auto k = static_cast<float>(p.k);
  if (p.source == ActivationSource::kSiluProduct) {
    row.for_runs(p.k, [&](float(&y)[kRun], int64_t at) {
      float up[kRun];
      to_floats(static_cast<const In*>(p.up) + offset + at, up);
#pragma unroll
      for (int i = 0; i < kRun; ++i) y[i] = y[i] / (1 + __expf(-y[i])) * up[i];
    });
    return;
  }
  float mean = 0;
  if (p.source == ActivationSource::kLayerNorm) {
    mean = reduce(row.sum_of([](float y) { return y; }), Sum{}) / k;
    row.for_runs(p.k, [&](float(&y)[kRun], int64_t) {
#pragma unroll
      for (int i = 0; i < kRun; ++i) y[i] -= mean;
    });
  }
  const float squares = reduce(row.sum_of([](float y) { return y * y; }), Sum{});
  const float factor = rsqrtf(squares / k + p.epsilon);
  row.for_runs(p.k, [&](float(&y)[kRun], int64_t at) {
    float weight[kRun], bias[kRun] = {};
    to_floats(p.weight + at, weight);
    if (p.bias) to_floats(p.bias + at, bias);
#pragma unroll
    for (int i = 0; i < kRun; ++i) y[i] = y[i] * factor * weight[i] + bias[i];
  });
}

/// Quantizes and stores a row.
template <int kRuns>
__device__ __forceinline__ void store_codes(const ActivationProblem& p, int64_t token, Reducer& reduce,
                                            Row<kRuns>& row) {
  float most = 0;
#pragma unroll
  for (int i = 0; i < kRuns * kRun; ++i) {
    const float y = fabsf(row.y[i / kRun][i % kRun]);
    most = fmaxf(most, isfinite(y) ? y : INFINITY);
  }
  most = reduce(most, Max{});
  const bool finite = most < INFINITY, zero = !finite || most < 0x1p-100f;
  const auto qmax = static_cast<float>((1 << (p.bits - 1)) - 1);
  const float inverse = zero ? 0 : __fdiv_rn(qmax, most);
  if (threadIdx.x == 0) p.scale[token] = !finite ? NAN : zero ? 0 : __fdiv_rn(most, qmax);
  row.for_runs(p.k, [&](float(&y)[kRun], int64_t at) {
    alignas(8) int8_t codes[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      codes[i] =
          static_cast<int8_t>(zero ? 0.0f : fminf(fmaxf(rintf(__fmul_rn(y[i], inverse)), -qmax), qmax));
    }
    *reinterpret_cast<uint2*>(p.codes + token * p.codes_stride + at) = *reinterpret_cast<const uint2*>(codes);
  });
}

template <class In, int kRuns>
__global__ void __launch_bounds__(kThreads) quantize_kernel(const __grid_constant__ ActivationProblem p) {
  __shared__ float scratch[2][kWarps];
  Reducer reduce(scratch);
  const int64_t token = blockIdx.x;
  Row<kRuns> row = {};
  ptx::launch_dependents();
  ptx::wait_for_predecessors();
  row.for_runs(p.k, [&](float(&y)[kRun], int64_t at) {
    to_floats(static_cast<const In*>(p.x) + token * p.stride + at, y);
  });
  if (p.source != ActivationSource::kPlain) apply_source<In>(p, token * p.stride, reduce, row);
  store_codes(p, token, reduce, row);
}

template <class In>
void launch(const ActivationProblem& p, cudaStream_t stream, bool overlap_previous) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.blockDim = kThreads;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlap_previous ? 1 : 0;
  const auto kernel = p.k <= 2 * kThreads * kRun   ? quantize_kernel<In, 2>
                      : p.k <= 6 * kThreads * kRun ? quantize_kernel<In, 6>
                                                   : quantize_kernel<In, 16>;
  config.gridDim = static_cast<unsigned>(p.m);
  check(cudaLaunchKernelEx(&config, kernel, p), "launch of the activation quantizer");
}

}  // namespace

void launch_activation(const ActivationProblem& problem, cudaStream_t stream, bool overlap_previous) {
  switch (problem.type) {
    case OutputType::kFloat:
      return launch<float>(problem, stream, overlap_previous);
    case OutputType::kHalf:
      return launch<__half>(problem, stream, overlap_previous);
    default:
      return launch<__nv_bfloat16>(problem, stream, overlap_previous);
  }
}

}  // namespace tessera::cuda
