// Embedding and sums: a block a row.
#include "tessera/kernels/cuda/launch.cuh"
#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/rows.h"
#include "tessera/kernels/cuda/scaling.cuh"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;

/// The sum over the block, in every thread.
__device__ float block_sum(float x) {
  __shared__ float sums[kThreads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float all = 0;
#pragma unroll
  for (float v : sums) all += v;
  return all;
}

__global__ void __launch_bounds__(kThreads) embed_kernel(const __grid_constant__ EmbedProblem p) {
  const int64_t t = blockIdx.x;
  const auto* const row = static_cast<const __half*>(p.tokens) + p.id[t] * p.width;
  const auto* const place =
      p.positions ? static_cast<const __half*>(p.positions) + (p.position[t] + p.position_offset) * p.width
                  : nullptr;
  const auto width = static_cast<float>(p.width);
  float mean = 0, factor = 1;
  if (p.gain) {
    if (p.layer_norm) {
      for (int64_t i = threadIdx.x; i < p.width; i += kThreads) mean += to_float(row[i]);
      mean = block_sum(mean) / width;
    }
    float squares = 0;
    for (int64_t i = threadIdx.x; i < p.width; i += kThreads) {
      squares += (to_float(row[i]) - mean) * (to_float(row[i]) - mean);
    }
    factor = rsqrtf(block_sum(squares) / width + p.epsilon);
  }
  for (int64_t i = threadIdx.x; i < p.width; i += kThreads) {
    float x = to_float(row[i]);
    if (p.gain) x = (x - mean) * factor * p.gain[i] + (p.bias ? p.bias[i] : 0);
    if (place) x += to_float(place[i]);
    p.h[t * p.stride + i] = x;
  }
}

__global__ void __launch_bounds__(kThreads)
    add_kernel(const __half* delta, int64_t delta_stride, int64_t width, float* h, int64_t stride) {
  const int64_t t = blockIdx.x;
  for (int64_t i = threadIdx.x; i < width; i += kThreads)
    h[t * stride + i] += to_float(delta[t * delta_stride + i]);
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    bias_kernel(const float* bias, int64_t width, Out* out, int64_t stride) {
  const int64_t t = blockIdx.x;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    Out& y = out[t * stride + i];
    convert(to_float(y) + bias[i], y);
  }
}

}  // namespace

void embed(const EmbedProblem& problem, cudaStream_t stream) {
  launch(embed_kernel, {.blocks = problem.rows, .threads = kThreads, .stream = stream}, problem);
}

void add(const void* delta, int64_t delta_stride, int64_t rows, int64_t width, float* h, int64_t stride,
         cudaStream_t stream) {
  launch(add_kernel, {.blocks = rows, .threads = kThreads, .stream = stream},
         static_cast<const __half*>(delta), delta_stride, width, h, stride);
}

void add_bias(const float* bias, int64_t rows, int64_t width, void* out, int64_t stride, bool float_out,
              cudaStream_t stream) {
  const LaunchShape shape{.blocks = rows, .threads = kThreads, .stream = stream};
  if (float_out) return launch(bias_kernel<float>, shape, bias, width, static_cast<float*>(out), stride);
  launch(bias_kernel<__half>, shape, bias, width, static_cast<__half*>(out), stride);
}

}  // namespace tessera::cuda
