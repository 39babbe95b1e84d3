// A warp takes an output: of losses one group of it, of GPTQ's columns four neighbouring ones in each lane.
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "tessera/quant/grid/gpu_loops.h"

namespace tessera::gpu {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kOwn = kMostColumns / 32;  ///< columns of a lane

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

/// Makes a device the current one.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceScope() { cudaSetDevice(before_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

unsigned blocks_of(int64_t warps) {
  return static_cast<unsigned>((warps + kWarps - 1) / kWarps);
}

__device__ float code_of(float scaled, float lo, float hi) {
  return rintf(fminf(fmaxf(scaled, lo), hi));
}

template <class T>
__device__ T warp_sum(T x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  return x;
}

__global__ void __launch_bounds__(kThreads)
    losses_kernel(const float* weight, int64_t rows, int64_t k, int64_t candidates, CellArrays cells,
                  const float* importance, float exponent, float* losses) {
  const int64_t count = candidates * rows * cells.groups;
  const int64_t at = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (at >= count) return;
  const int64_t group = at % cells.groups, row = at / cells.groups % rows, size = k / cells.groups;
  const float step = cells.step[at], lo = cells.lo[at], hi = cells.hi[at], inverse = 1 / step;
  const float* const w = weight + row * k + group * size;
  float sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x % 32; i < size; i += 32) {
    const float error = w[i] - code_of(w[i] * inverse, lo, hi) * step;
    sum += importance ? importance[group * size + i] * error * error : __powf(fabsf(error), exponent);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) losses[at] = sum;
}

/// Bit i: the weight w[i] of four is one of the two whose loss hurts least, w^2 / U_ii^2.
__device__ unsigned prunable(const float (&w)[kOwn], const float (&diagonal)[kOwn]) {
  static_assert(kOwn == 4);
  unsigned pruned = 0;
  for (int n = 0; n < 2; ++n) {
    int best = -1;
    float least = 0;
    for (int i = 0; i < kOwn; ++i) {
      const float ratio = w[i] / diagonal[i], cost = ratio * ratio;
      if ((pruned >> i & 1u) || (best >= 0 && !(cost < least))) continue;
      best = i, least = cost;
    }
    pruned |= 1u << best;
  }
  return pruned;
}

__global__ void __launch_bounds__(kThreads) columns_kernel(ColumnLoop p, CellArrays cells) {
  extern __shared__ float4 upper[];  // [count][32]: the columns of each lane
  for (int64_t i = threadIdx.x; i < p.count * kMostColumns; i += kThreads) {
    const int64_t row = i / kMostColumns, column = i % kMostColumns;
    reinterpret_cast<float*>(upper)[i] = column < p.count ? p.upper[row * p.upper_stride + column] : 0;
  }
  __syncthreads();
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= p.rows) return;
  const int lane = static_cast<int>(threadIdx.x % 32), count = static_cast<int>(p.count);
  float w[kOwn], step[kOwn], lo[kOwn], hi[kOwn], diagonal[kOwn];
#pragma unroll
  for (int c = 0; c < kOwn; ++c) {
    const int i = min(kOwn * lane + c, count - 1);
    const int64_t cell = row * cells.groups + p.column[i] / p.group_size;
    w[c] = p.weight[row * p.weight_stride + i];
    step[c] = cells.step[cell], lo[c] = cells.lo[cell], hi[c] = cells.hi[cell];
    diagonal[c] = reinterpret_cast<const float*>(upper)[i * kMostColumns + i];
  }
  double loss = 0;
  unsigned pruned = 0;
  for (int owner = 0; kOwn * owner < count; ++owner) {
    if (p.sparse) pruned = prunable(w, diagonal);
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
      const int i = kOwn * owner + c;
      if (i >= count) break;
      const float code = pruned >> c & 1u ? 0 : code_of(__fdiv_rn(w[c], step[c]), lo[c], hi[c]);
      const float own = __fdiv_rn(__fsub_rn(w[c], __fmul_rn(code, step[c])), diagonal[c]);
      if (lane == owner) {
        p.codes[row * p.code_stride + p.column[i]] = static_cast<int8_t>(code);
        p.errors[row * p.count + i] = own;
        loss += 0.5 * double{own} * own;
      }
      // What the row of U has in front of its diagonal is zero; the columns there are done.
      const float error = __shfl_sync(~0u, own, owner);
      const float4 u = upper[i * 32 + lane];
      w[0] = __fsub_rn(w[0], __fmul_rn(error, u.x)), w[1] = __fsub_rn(w[1], __fmul_rn(error, u.y));
      w[2] = __fsub_rn(w[2], __fmul_rn(error, u.z)), w[3] = __fsub_rn(w[3], __fmul_rn(error, u.w));
    }
  }
  loss = warp_sum(loss);
  if (lane == 0) p.loss[row] += loss;
}

}  // namespace

void separable_losses(int device, const float* weight, int64_t rows, int64_t k, int64_t candidates,
                      const CellArrays& cells, const float* importance, float exponent, float* losses) {
  const DeviceScope scope(device);
  losses_kernel<<<blocks_of(candidates * rows * cells.groups), kThreads>>>(weight, rows, k, candidates, cells,
                                                                           importance, exponent, losses);
  check(cudaGetLastError(), "losses of a weight grid");
}

void quantize_columns(int device, const ColumnLoop& loop, const CellArrays& cells) {
  const DeviceScope scope(device);
  const size_t shared = static_cast<size_t>(loop.count) * kMostColumns * sizeof(float);
  check(cudaFuncSetAttribute(columns_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kMostColumns * kMostColumns * sizeof(float)),
        "shared memory for the columns of GPTQ");
  columns_kernel<<<blocks_of(loop.rows), kThreads, shared>>>(loop, cells);
  check(cudaGetLastError(), "columns of GPTQ");
}

}  // namespace tessera::gpu
