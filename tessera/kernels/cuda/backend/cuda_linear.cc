// Loading and running linear layers.
#include "tessera/kernels/cuda/backend/cuda_linear.h"

#include <fmt/format.h>

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/format/joined_linear.h"
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

/// A vector of all parts in device memory; null where there is none.
template <class T>
std::unique_ptr<DeviceBuffer> joined(std::span<const QuantizedLinear* const> parts,
                                     Tensor QuantizedLinear::*field) {
  return to_device(std::span<const T>(join_field(parts, field).as<T>()));
}

/// What is the same for all weights.
FloatGemmProblem float_problem(const CudaInput& input, const Rows& out, int64_t n, int64_t k,
                               const std::unique_ptr<DeviceBuffer>& bias, bool accumulate) {
  return {.m = out.count,
          .n = n,
          .k = k,
          .bias = values_of<float>(bias),
          .x = input.halves(),
          .x_stride = input.stride(),
          .out = out.data,
          .out_stride = out.stride,
          .float_out = out.type == DType::kF32,
          .accumulate = accumulate};
}

}  // namespace

IntegerLinear::IntegerLinear(std::span<const QuantizedLinear* const> parts, WeightUpload& upload)
    : info_{describe(*parts[0]), kernels_of_device(), weight_bits(parts[0]->weight_format),
            parts[0]->activation.bits},
      k_in_(parts[0]->k_in()),
      code_bits_(parts[0]->activation.bits <= 4 && parts[0]->input_repeat.empty() ? 4 : 8),
      has_zero_(parts[0]->has_zero_point()),
      blocks_(upload.packed(parts)),
      outlier_weights_(upload.packed_outliers(parts)),
      scale_(joined<float>(parts, &QuantizedLinear::scale)),
      row_sum_(joined<int32_t>(parts, &QuantizedLinear::row_sum)),
      bias_(joined<float>(parts, &QuantizedLinear::bias)) {
  weights_ = {.layout = layout_of(*parts[0]),
              .n = outputs_of(parts),
              .k = parts[0]->k,
              .blocks = blocks_->data(),
              .scale = values_of<float>(scale_),
              .row_sum = values_of<int32_t>(row_sum_),
              .bias = values_of<float>(bias_)};
  if (outlier_weights_)
    outliers_ = {.count = padded_outliers(*parts[0]), .weights = outlier_weights_->data()};
}

const GemmConfig& IntegerLinear::config_for(const GemmProblem& problem) const {
  const auto found = configs_.find(problem.m);
  if (found != configs_.end()) return found->second;
  return configs_.emplace(problem.m, choose_config(problem, current_device())).first->second;
}

GemmProblem IntegerLinear::problem(int64_t m) const {
  return {.weights = weights_, .m = m, .code_bits = code_bits_, .outliers = outliers_};
}

std::string IntegerLinear::tile(int64_t rows) const {
  const GemmConfig& config = config_for(problem(rows));
  return fmt::format("{} x {}{}", config.outputs, config.tokens,
                     config.split > 1 ? fmt::format(", split {}", config.split) : "");
}

void IntegerLinear::run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
                        bool overlap) const {
  GemmProblem p = problem(out.count);
  p.codes = input.codes();
  p.codes_stride = input.stride();
  p.token_scale = input.scale();
  p.token_zero = has_zero_ ? input.zero() : nullptr;
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

bool CodeLinear::runs(const QuantizedLinear& linear) {
  constexpr int64_t kInputs = 32;  // side by side in a lane
  return linear.weight_format != WeightFormat::kInt8 && linear.plain_input() && linear.k % kInputs == 0 &&
         linear.group_size % kInputs == 0;
}

CodeLinear::CodeLinear(std::span<const QuantizedLinear* const> parts, WeightUpload& upload)
    : info_{describe(*parts[0]), "sm_80", 4, 16},
      n_(outputs_of(parts)),
      k_(parts[0]->k),
      group_size_(parts[0]->group_size > 0 ? parts[0]->group_size : k_),
      codes_(upload.float_codes(parts, group_size_)),
      scale_(joined<float>(parts, &QuantizedLinear::scale)),
      bias_(joined<float>(parts, &QuantizedLinear::bias)) {}

void CodeLinear::run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
                     bool overlap) const {
  FloatGemmProblem p = float_problem(input, out, n_, k_, bias_, accumulate);
  p.codes = {codes_.words->data(), codes_.groups->data(), group_size_, values_of<float>(scale_)};
  float_gemm(p, stream, overlap);
}

HalfLinear::HalfLinear(std::span<const FloatWeight> parts, const Cublas* cublas, WeightUpload& upload)
    : info_{cublas ? "f16 x f16, cuBLAS" : "f16 x f16", "sm_80", 16, 16},
      k_(parts[0].weight.shape[1]),
      cublas_(cublas) {
  std::vector<TensorView> weights;
  for (const FloatWeight& part : parts) {
    weights.push_back(part.weight);
    n_ += part.weight.shape[0];
  }
  set_weights(weights, upload);
  std::vector<float> bias;
  int64_t row = 0;
  for (const FloatWeight& part : parts) {
    if (!part.bias.empty()) {
      bias.resize(static_cast<size_t>(n_));
      std::ranges::copy(part.bias, bias.begin() + row);
    }
    row += part.weight.shape[0];
  }
  bias_ = to_device(std::span<const float>(bias));
}

HalfLinear::HalfLinear(const QuantizedLinear& linear, WeightUpload& upload)
    : info_{describe(linear) + " expanded to f16", "sm_80", 16, 16}, n_(linear.n), k_(linear.k_in()) {
  const std::vector<float> values = input_weights(linear);
  const TensorView view{DType::kF32, {n_, k_}, reinterpret_cast<const std::byte*>(values.data())};
  set_weights({&view, 1}, upload);
  bias_ = to_device(linear.bias.as<float>());
}

void HalfLinear::set_weights(std::span<const TensorView> parts, WeightUpload& upload) {
  if (k_ % 16 != 0) throw Error("CUDA: a layer with {} inputs; the kernels need a multiple of 16", k_);
  weights_ = upload.halves(parts);
}

void HalfLinear::run(const CudaInput& input, const Rows& out, bool accumulate, cudaStream_t stream,
                     bool overlap) const {
  FloatGemmProblem p = float_problem(input, out, n_, k_, bias_, accumulate);
  p.weights = weights_->data();
  if (!cublas_) return float_gemm(p, stream, overlap);
  cublas_->gemm(out.count, n_, k_, weights_->data(), input.halves(), input.stride(), out.data, out.stride,
                p.float_out, accumulate);
  if (p.bias) add_bias(p.bias, out.count, n_, out.data, out.stride, p.float_out, stream);
}

}  // namespace tessera::cuda
