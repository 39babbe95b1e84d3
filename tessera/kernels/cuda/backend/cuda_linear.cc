// Loading and running linear layers.
#include "tessera/kernels/cuda/backend/cuda_linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/float_gemm.h"
#include "tessera/kernels/cuda/packed_weights.h"
#include "tessera/kernels/cuda/rows.h"

namespace tessera::cuda {
namespace {

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

/// "sm_90a", or "sm_80" where the kernels of 8.0 run.
std::string kernels_of_device() {
  const int major = device_attribute(cudaDevAttrComputeCapabilityMajor);
  const int minor = device_attribute(cudaDevAttrComputeCapabilityMinor);
  return major == 9 && minor == 0 ? "sm_90a" : "sm_80";
}

/// Half bits of `values`, which are floats of any type. Throws Error when one is too large.
void to_halves(const TensorView& values, uint16_t* halves) {
  constexpr int64_t kPart = 1 << 14;
  std::atomic<bool> overflow = false;
  parallel_for(ceil_div(values.size(), kPart), [&](int64_t part) {
    const int64_t first = part * kPart, count = std::min(values.size() - first, kPart);
    std::array<float, kPart> floats;
    const auto* const from = values.data + static_cast<size_t>(first) * size_of(values.dtype);
    copy_to_float({values.dtype, {count}, from}, std::span(floats).first(static_cast<size_t>(count)));
    for (int64_t i = 0; i < count; ++i) {
      halves[first + i] = to_half(floats[static_cast<size_t>(i)]).bits;
      if ((halves[first + i] & 0x7c00) == 0x7c00) overflow = true;
    }
  });
  if (overflow) throw Error("CUDA: a weight is larger than 65504, the largest number of 16 bits");
}

}  // namespace

IntegerLinear::IntegerLinear(const QuantizedLinear& linear)
    : info_{describe(linear), kernels_of_device(), weight_bits(linear.weight_format), linear.activation.bits},
      k_in_(linear.k_in()),
      code_bits_(linear.activation.bits <= 4 && linear.input_repeat.empty() ? 4 : 8),
      has_zero_(linear.has_zero_point()),
      blocks_(to_device(std::span<const uint8_t>(pack_weights(linear)))),
      scale_(to_device(linear.scale.as<float>())),
      row_sum_(to_device(linear.row_sum.as<int32_t>())),
      bias_(to_device(linear.bias.as<float>())) {
  weights_ = {.layout = layout_of(linear),
              .n = linear.n,
              .k = linear.k,
              .blocks = blocks_->data(),
              .scale = values_of<float>(scale_),
              .row_sum = values_of<int32_t>(row_sum_),
              .bias = values_of<float>(bias_)};
  if (linear.outlier_index.empty()) return;
  outlier_weights_ = to_device(std::span<const uint8_t>(pack_outliers(linear)));
  outliers_ = {.count = padded_outliers(linear), .weights = outlier_weights_->data()};
}

const GemmConfig& IntegerLinear::config_for(const GemmProblem& problem) const {
  const auto found = configs_.find(problem.m);
  if (found != configs_.end()) return found->second;
  return configs_.emplace(problem.m, choose_config(problem, current_device())).first->second;
}

void IntegerLinear::run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
                        bool overlap) const {
  GemmProblem p;
  p.weights = weights_;
  p.m = out.count;
  p.codes = input.codes();
  p.codes_stride = input.stride();
  p.code_bits = code_bits_;
  p.token_scale = input.scale();
  p.token_zero = has_zero_ ? input.zero() : nullptr;
  p.outliers = outliers_;
  if (outliers_.count > 0) {
    p.outliers.x = input.halves();
    p.outliers.stride = input.how().outlier_stride();
  }
  p.residual = accumulate ? out.data : nullptr;
  p.out = out.data;
  p.out_stride = out.stride;
  p.output = out.type == DType::kF32 ? OutputType::kFloat : OutputType::kHalf;
  gemm(p, stream, {.config = config_for(p), .overlap_previous = overlap});
}

HalfLinear::HalfLinear(std::span<const FloatWeight> parts, const Cublas* cublas) : cublas_(cublas) {
  k_ = parts[0].weight.shape[1];
  for (const FloatWeight& part : parts) n_ += part.weight.shape[0];
  std::vector<uint16_t> halves(static_cast<size_t>(n_ * k_));
  std::vector<float> bias;
  int64_t row = 0;
  for (const FloatWeight& part : parts) {
    to_halves(part.weight, &halves[static_cast<size_t>(row * k_)]);
    if (!part.bias.empty()) {
      bias.resize(static_cast<size_t>(n_));
      std::ranges::copy(part.bias, bias.begin() + row);
    }
    row += part.weight.shape[0];
  }
  upload(halves);
  bias_ = to_device(std::span<const float>(bias));
  info_ = {cublas ? "f16 x f16, cuBLAS" : "f16 x f16", "sm_80", 16, 16};
}

HalfLinear::HalfLinear(const QuantizedLinear& linear) : n_(linear.n), k_(linear.k_in()) {
  const std::vector<float> values = input_weights(linear);
  std::vector<uint16_t> halves(values.size());
  to_halves({DType::kF32, {n_, k_}, reinterpret_cast<const std::byte*>(values.data())}, halves.data());
  upload(halves);
  bias_ = to_device(linear.bias.as<float>());
  info_ = {describe(linear) + " expanded to f16", "sm_80", 16, 16};
}

void HalfLinear::upload(std::span<const uint16_t> halves) {
  if (k_ % 16 != 0) throw Error("CUDA: a layer with {} inputs; the kernels need a multiple of 16", k_);
  weights_ = to_device(halves);
}

void HalfLinear::run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
                     bool overlap) const {
  const bool float_out = out.type == DType::kF32;
  const float* const bias = values_of<float>(bias_);
  if (!cublas_) {
    return float_gemm({.m = out.count,
                       .n = n_,
                       .k = k_,
                       .weights = weights_->data(),
                       .bias = bias,
                       .x = input.halves(),
                       .x_stride = input.stride(),
                       .out = out.data,
                       .out_stride = out.stride,
                       .float_out = float_out,
                       .accumulate = accumulate},
                      stream, overlap);
  }
  cublas_->gemm(out.count, n_, k_, weights_->data(), input.halves(), input.stride(), out.data, out.stride,
                float_out, accumulate);
  if (bias) add_bias(bias, out.count, n_, out.data, out.stride, float_out, stream);
}

}  // namespace tessera::cuda
