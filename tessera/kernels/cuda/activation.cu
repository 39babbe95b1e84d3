// Fused norm or product, input map and per-token quantization: a block of threads takes a row into registers,
// so that x is read once, whatever number of reductions the source needs. A map needs the whole row at hand:
// it goes through shared memory then.
//   traffic  M K (2 + 1) bytes for 16-bit rows (+ 2 for `up`)
//   issue    rounding and narrowing instructions run at an eighth of the rate of additions and would take
//            longer than the traffic: codes are rounded by adding 1.5 * 2^23, after which the low byte of a
//            float is the code
//   bound    by memory for plain rows and products; norms by issue and latency together (60 % of the issue
//            slots are used)
#include <algorithm>

#include "tessera/kernels/cuda/activation_row.cuh"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {
namespace {

constexpr float kRoundingShift = 0x1.8p23f;

/// rint(v) for |v| < 2^22.
__device__ __forceinline__ float rounded(float v) {
  return __fadd_rn(__fadd_rn(v, kRoundingShift), -kRoundingShift);
}

/// x / divisor, correctly rounded, from RN(1 / divisor): five additions instead of a division. Not for large
/// divisors, whose reciprocal is no normal number: `reciprocal` is 0 then.
__device__ __forceinline__ float quotient(float x, float divisor, float reciprocal) {
  if (reciprocal == 0) return __fdiv_rn(x, divisor);
  float q = __fmul_rn(x, reciprocal);
  q = __fmaf_rn(__fmaf_rn(-q, divisor, x), reciprocal, q);
  return __fmaf_rn(__fmaf_rn(-q, divisor, x), reciprocal, q);
}

/// The low bytes of rint(v), two's complement.
__device__ __forceinline__ uint2 pack_codes(const float (&v)[kRun]) {
  uint32_t bits[kRun], words[2];
#pragma unroll
  for (int i = 0; i < kRun; ++i) bits[i] = __float_as_uint(__fadd_rn(v[i], kRoundingShift));
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    words[i] = __byte_perm(__byte_perm(bits[4 * i], bits[4 * i + 1], 0x0040),
                           __byte_perm(bits[4 * i + 2], bits[4 * i + 3], 0x0040), 0x5410);
  }
  return {words[0], words[1]};
}

__device__ __forceinline__ void store_run(const ActivationProblem& p, int64_t token, int at, uint2 codes,
                                          bool finite) {
  *reinterpret_cast<uint2*>(p.codes + token * p.codes_stride + at) = finite ? codes : uint2{};
}

/// Quantizes `factor` times the row; `repeat` as in ChannelMap.
template <class AnyReducer, class AnyRow>
__device__ __forceinline__ void quantize_symmetric(const ActivationProblem& p, int64_t token, float factor,
                                                   const uint8_t* repeat, AnyReducer& reduce, AnyRow& row) {
  float most = 0;
  row.for_values([&](float y) { most = Max{}(most, fabsf(y)); });
  most = reduce(most, Max{});
  const float scaled = most * factor;
  const bool finite = scaled < INFINITY, zero = scaled < 0x1p-100f;
  const auto qmax = static_cast<float>((1 << (p.bits - 1)) - 1);
  const float inverse = zero ? 0 : __fdiv_rn(qmax, most);
  if (threadIdx.x == 0) {
    p.scale[token] = !finite ? NAN : zero ? 0 : __fdiv_rn(scaled, qmax);
    if (p.zero) p.zero[token] = 0;
  }
  row.for_runs(p.k, [&](float(&y)[kRun], int at) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      y[i] = __fmul_rn(y[i], inverse);  // |y| <= qmax when rounded
      if (repeat) y[i] = rounded(y[i]) * repeat[at + i];
    }
    store_run(p, token, at, pack_codes(y), finite);
  });
}

template <class AnyReducer, class AnyRow>
__device__ __forceinline__ void quantize_asymmetric(const ActivationProblem& p, int64_t token,
                                                    const uint8_t* repeat, AnyReducer& reduce, AnyRow& row) {
  float low = 0, high = 0;
  row.for_values([&](float y) {
    low = Min{}(low, y);
    high = Max{}(high, y);
  });
  low = reduce(low, Min{});
  high = reduce(high, Max{});
  const bool finite = low > -INFINITY && high < INFINITY;
  if (high - low < 0x1p-100f) low = 0, high = 1;
  const auto levels = static_cast<float>((1 << p.bits) - 1), half = static_cast<float>(1 << (p.bits - 1));
  const float scale = __fdiv_rn(high - low, levels);
  const float zero = rounded(__fdiv_rn(-low, scale));
  const float reciprocal = scale < 0x1p120f ? __frcp_rn(scale) : 0;
  const float shift = repeat ? zero : half;
  if (threadIdx.x == 0) {
    p.scale[token] = finite ? scale : NAN;
    if (p.zero) p.zero[token] = finite && !repeat ? static_cast<int>(zero - half) : 0;
  }
  row.for_runs(p.k, [&](float(&y)[kRun], int at) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      y[i] = fminf(fmaxf(rounded(quotient(y[i], scale, reciprocal)) + zero, 0), levels) - shift;
      if (repeat) y[i] *= repeat[at + i];
    }
    store_run(p, token, at, pack_codes(y), finite);
  });
}

/// Column c of the map, from the whole row.
__device__ __forceinline__ float mapped(const ChannelMap& map, const float* y, int c) {
  float sum = 0;
  for (int i = map.offset[c]; i < map.offset[c + 1]; ++i) {
    const float value = y[map.index[i]];
    sum = __fadd_rn(sum, map.gain ? __fmul_rn(map.gain[i], value) : value);
  }
  return sum;
}

/// Columns c .. c + 7 of the map.
__device__ __forceinline__ void map_run(const ChannelMap& map, const float* y, int c, float (&to)[kRun]) {
  if (map.offset) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) to[i] = mapped(map, y, c + i);
    return;
  }
  int index[kRun];
  if (map.index) {
    load_run(map.index + c, index);
  } else {
#pragma unroll
    for (int i = 0; i < kRun; ++i) index[i] = c + i;
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) to[i] = y[index[i]];
  if (!map.gain) return;
  float gain[kRun];
  load_run(map.gain + c, gain);
#pragma unroll
  for (int i = 0; i < kRun; ++i) to[i] = __fmul_rn(to[i], gain[i]);
}

/// Replaces the row by its columns, through shared memory, and copies its outliers out.
template <int kThreads, class AnyRow>
__device__ __forceinline__ void apply_map(const ActivationProblem& p, int64_t token, float* shared,
                                          AnyRow& row) {
  row.for_runs(p.width(), [&](float(&y)[kRun], int at) {
#pragma unroll
    for (int i = 0; i < kRun; i += 4) {
      *reinterpret_cast<float4*>(shared + at + i) = {y[i], y[i + 1], y[i + 2], y[i + 3]};
    }
  });
  __syncthreads();
  row = {};
  row.for_runs(p.k, [&](float(&y)[kRun], int at) { map_run(p.map, shared, at, y); });
  if (p.outliers.count == 0) return;
  auto* values = static_cast<__half*>(p.outliers.values) + token * p.outliers.stride;
  for (int f = static_cast<int>(threadIdx.x); f < p.outliers.stride; f += kThreads) {
    values[f] = __float2half_rn(f < p.outliers.count ? shared[p.outliers.index[f]] : 0.0f);
  }
}

/// kGeneral: with a map, outliers or asymmetric codes; needs dynamic shared memory of a row of floats.
template <class In, bool kGeneral, int kThreads, int kRuns>
__global__ void __launch_bounds__(kThreads) quantize_kernel(const __grid_constant__ ActivationProblem p) {
  using AnyReducer = Reducer<kThreads / 32>;
  __shared__ typename AnyReducer::Scratch scratch;
  AnyReducer reduce(scratch);
  const int64_t token = blockIdx.x;
  Row<kThreads, kRuns> row;
  ptx::launch_dependents();
  ptx::wait_for_predecessors();
  const float factor = load_row<In>(p, token, reduce, row);
  if constexpr (kGeneral) {
    extern __shared__ __align__(16) float shared[];
    row.for_values([&](float& y) { y *= factor; });
    apply_map<kThreads>(p, token, shared, row);
    if (!p.symmetric) return quantize_asymmetric(p, token, p.map.repeat, reduce, row);
    quantize_symmetric(p, token, 1, p.map.repeat, reduce, row);
  } else {
    quantize_symmetric(p, token, factor, nullptr, reduce, row);
  }
}

template <class In, bool kGeneral, int kThreads, int kRuns>
void launch_rows(const ActivationProblem& p, cudaStream_t stream, bool overlap_previous) {
  const auto kernel = quantize_kernel<In, kGeneral, kThreads, kRuns>;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(p.m);
  config.blockDim = kThreads;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlap_previous && device_attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? 1 : 0;
  if (kGeneral) {
    config.dynamicSmemBytes = static_cast<size_t>(p.width()) * sizeof(float);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(config.dynamicSmemBytes)),
          "cudaFuncSetAttribute");
  }
  check(cudaLaunchKernelEx(&config, kernel, p), "launch of the activation quantizer");
}

/// As many threads as hold the row. Where there are many rows fewer threads, with more of the row each: what
/// each does once a row weighs less then.
template <class In>
void launch_plain(const ActivationProblem& p, cudaStream_t stream, bool overlap_previous) {
  constexpr int64_t kManyRows = 1024;
  if (p.k > 16384) return launch_rows<In, false, 1024, 4>(p, stream, overlap_previous);
  if (p.k > 8192) return launch_rows<In, false, 512, 4>(p, stream, overlap_previous);
  if (p.k > 4096) return launch_rows<In, false, 256, 4>(p, stream, overlap_previous);
  if (p.m < kManyRows) return launch_rows<In, false, 256, 2>(p, stream, overlap_previous);
  launch_rows<In, false, 128, 4>(p, stream, overlap_previous);
}

template <class In>
void launch_general(const ActivationProblem& p, cudaStream_t stream, bool overlap_previous) {
  const int64_t width = std::max(p.k, p.width());
  if (width > 16384) return launch_rows<In, true, 1024, 4>(p, stream, overlap_previous);
  if (width > 4096) return launch_rows<In, true, 1024, 2>(p, stream, overlap_previous);
  launch_rows<In, true, 256, 2>(p, stream, overlap_previous);
}

template <class In>
void launch(const ActivationProblem& p, cudaStream_t stream, bool overlap_previous) {
  const bool general = p.map.index || p.map.repeat || p.outliers.count > 0 || !p.symmetric;
  return general ? launch_general<In>(p, stream, overlap_previous)
                 : launch_plain<In>(p, stream, overlap_previous);
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
