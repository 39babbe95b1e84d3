// What comes before quantization: loads a row and applies a norm, or an activation, or adds up attention.
#pragma once

#include "tessera/kernels/cuda/activation.h"
#include "tessera/kernels/cuda/activation_row.cuh"
#include "tessera/kernels/cuda/attention/arithmetic.cuh"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {

__device__ __forceinline__ float reciprocal(float v) {
  asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(v));
  return v;
}

/// x / (1 + exp(-x))
__device__ __forceinline__ float silu(float x) {
  float power = -1.4426950408889634f * x;
  asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(power));
  return x * reciprocal(1 + power);
}

/// y = function(x, up)
template <class In, int kRuns, class Function>
__device__ __forceinline__ void combine(const Row<In, kRuns>& x, const Row<In, kRuns>& up,
                                        Row<float, kRuns>& y, Function function) {
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    float values[kRun], factors[kRun];
    x.get(i, values);
    up.get(i, factors);
#pragma unroll
    for (int j = 0; j < kRun; ++j) values[j] = function(values[j], factors[j]);
    y.set(i, values);
  }
}

__device__ __forceinline__ float activate(GluActivation function, float x) {
  switch (function) {
    case GluActivation::kSilu:
      return silu(x);
    case GluActivation::kRelu:
      return x < 0 ? 0 : x;  // NaN stays NaN
    case GluActivation::kGelu:
      return 0.5f * x * (1 + erff(x * 0.70710678f));
    case GluActivation::kGeluTanh:
      return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
  }
  return x;
}

/// Weights and biases of a norm for a thread's inputs.
template <class Norm, int kRuns>
struct NormConstants {
  Row<Norm, kRuns> weight, bias;

  template <bool kWhole>
  __device__ __forceinline__ void load(const ActivationProblem& p) {
    const int width = static_cast<int>(p.inputs);
    weight.template load<kWhole>(static_cast<const Norm*>(p.weight), width);
    if (p.bias) bias.template load<kWhole>(static_cast<const Norm*>(p.bias), width);
  }
};

/// y = x * weight. Returns 1 / sqrt(mean(x^2) + epsilon), which y still lacks: symmetric codes do not depend
/// on it.
template <class In, class Norm, int kRuns, class AnyReducer>
__device__ __forceinline__ float rms_norm(const ActivationProblem& p, AnyReducer& reduce,
                                          const Row<In, kRuns>& x, const Row<Norm, kRuns>& weight,
                                          Row<float, kRuns>& y) {
  float squares[kRuns] = {};
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    float values[kRun], factors[kRun];
    x.get(i, values);
    weight.get(i, factors);
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      squares[i] += values[j] * values[j];
      values[j] *= factors[j];
    }
    y.set(i, values);
  }
  const float width = static_cast<float>(static_cast<int>(p.inputs));
  return rsqrtf(reduce.sum(total(squares)) * reciprocal(width) + p.epsilon);
}

struct Moments {
  float mean, variance;
};

/// Sums of x and x^2 in one pass over registers and one barrier; where that would cancel, because the mean is
/// much larger than the deviations, the squares about the mean take another pass.
template <bool kWhole, int kRuns, class AnyReducer>
__device__ __forceinline__ Moments moments(int width, AnyReducer& reduce, const Row<float, kRuns>& x) {
  const float per_input = reciprocal(static_cast<float>(width));
  const float2 sums = reduce.sum(float2{x.template sum<kWhole>(width, [](float v) { return v; }),
                                        x.template sum<kWhole>(width, [](float v) { return v * v; })});
  const float mean = sums.x * per_input, variance = sums.y * per_input - mean * mean;
  if (mean * mean <= 16 * variance) return {mean, variance};
  const float squares = x.template sum<kWhole>(width, [=](float v) { return (v - mean) * (v - mean); });
  return {mean, reduce.sum(squares) * per_input};
}

/// y = (y - mean(y)) / sqrt(variance(y) + epsilon) * weight + bias
template <bool kWhole, class Norm, int kRuns, class AnyReducer>
__device__ __forceinline__ void layer_norm(const ActivationProblem& p, AnyReducer& reduce,
                                           const NormConstants<Norm, kRuns>& constants,
                                           Row<float, kRuns>& y) {
  const auto [mean, variance] = moments<kWhole>(static_cast<int>(p.inputs), reduce, y);
  const float factor = rsqrtf(variance + p.epsilon);
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    float values[kRun], factors[kRun], shifts[kRun];
    y.get(i, values);
    constants.weight.get(i, factors);
    constants.bias.get(i, shifts);
#pragma unroll
    for (int j = 0; j < kRun; ++j) values[j] = (values[j] - mean) * (factors[j] * factor) + shifts[j];
    y.set(i, values);
  }
}

template <bool kWhole, class In, int kRuns>
__device__ __forceinline__ void load_input(const ActivationProblem& p, const void* from, int64_t token,
                                           Row<In, kRuns>& row) {
  row.template load<kWhole>(static_cast<const In*>(from) + token * p.stride, static_cast<int>(p.inputs));
}

/// The row of x that `token` is made of, with what is added to it.
template <bool kWhole, int kRuns>
__device__ __forceinline__ void load_sum(const ActivationProblem& p, int64_t token, Row<float, kRuns>& row) {
  if (p.rows) token = p.rows[token];
  load_input<kWhole>(p, p.x, token, row);
  if (!p.added.delta) return;
  const int width = static_cast<int>(p.inputs);
  Row<__half, kRuns> delta;
  delta.template load<kWhole>(static_cast<const __half*>(p.added.delta) + token * p.added.stride, width);
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    float values[kRun], others[kRun];
    row.get(i, values);
    delta.get(i, others);
#pragma unroll
    for (int j = 0; j < kRun; ++j) values[j] += others[j];
    row.set(i, values);
  }
  if (p.added.sum) row.store(p.added.sum + token * p.stride, width);
}

/// What attention leaves of row `token`.
template <int kRuns>
__device__ __forceinline__ void add_up_spans(const ActivationProblem& p, int64_t token,
                                             Row<float, kRuns>& y) {
  const RowSpans spans = p.spans.rows[token];
  const int width = static_cast<int>(p.inputs), head_dim = p.spans.head_dim;
  if (spans.count == 0) {
    Row<__half, kRuns> x;
    load_input<false>(p, p.x, token, x);
    y = x.floats();
    return;
  }
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    if (!y.exists(i, width)) continue;
    const float2* ends = p.spans.ends + int64_t{spans.first} * p.spans.heads + y.first(i) / head_dim;
    const float* out = p.spans.out + int64_t{spans.first} * width + y.first(i);
    float most = -INFINITY, sum = 0, values[kRun] = {};
#pragma unroll 4
    for (int s = 0; s < spans.count; ++s, ends += p.spans.heads, out += width) {
      const float2 end = *ends;
      const float4 low = reinterpret_cast<const float4*>(out)[0],
                   high = reinterpret_cast<const float4*>(out)[1];
      const float span[kRun] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      const FoldFactors factors(most, end.x);
      most = factors.most;
      sum = factors.add(sum, end.y);
#pragma unroll
      for (int j = 0; j < kRun; ++j) values[j] = factors.add(values[j], span[j]);
    }
#pragma unroll
    for (float& v : values) v = __half2float(__float2half_rn(__fdiv_rn(v, sum)));
    y.set(i, values);
  }
}

/// Loads row `token` and applies the source, but for the factor that it returns. Constants do not depend on
/// the kernel before this one and are loaded while it ends; their latency hides behind the row's.
template <ActivationSource kSource, class Norm, bool kWhole, class In, int kRuns, class AnyReducer, class Out>
__device__ __forceinline__ float load_row(const ActivationProblem& p, int64_t token, AnyReducer& reduce,
                                          Row<Out, kRuns>& y) {
  if constexpr (kSource == ActivationSource::kPlain) {
    ptx::wait_for_predecessors();
    load_input<kWhole>(p, p.x, token, y);
    return 1;
  } else if constexpr (kSource == ActivationSource::kSiluProduct) {
    Row<In, kRuns> x, up;
    ptx::wait_for_predecessors();
    load_input<kWhole>(p, p.x, token, x);
    load_input<kWhole>(p, p.up, token, up);
    combine(x, up, y, [](float v, float factor) { return silu(v) * factor; });
    return 1;
  } else if constexpr (kSource == ActivationSource::kActivated) {
    Row<In, kRuns> x, up;
    ptx::wait_for_predecessors();
    load_input<kWhole>(p, p.x, token, x);
    if (p.up) load_input<kWhole>(p, p.up, token, up);
    combine(x, up, y, [&](float v, float factor) { return activate(p.function, v) * (p.up ? factor : 1); });
    return 1;
  } else if constexpr (kSource == ActivationSource::kAttention) {
    ptx::wait_for_predecessors();
    add_up_spans(p, token, y);
    return 1;
  } else {
    NormConstants<Norm, kRuns> constants;
    constants.template load<kWhole>(p);
    Row<In, kRuns> x;
    ptx::wait_for_predecessors();
    if constexpr (std::is_same_v<In, float>) {
      load_sum<kWhole>(p, token, x);
    } else {
      load_input<kWhole>(p, p.x, token, x);
    }
    if (kSource == ActivationSource::kRmsNorm) return rms_norm(p, reduce, x, constants.weight, y);
    y = x.floats();
    layer_norm<kWhole>(p, reduce, constants, y);
    return 1;
  }
}

}  // namespace tessera::cuda
