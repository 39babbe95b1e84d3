// Activation codes and integer linears as libtorch tensors.
#include "tessera/quant/block/fake_quant.h"

#include <cassert>
#include <limits>
#include <memory>
#include <tuple>

#include "tessera/base/parallel.h"
#include "tessera/format/reference.h"
#include "tessera/quant/block/straight_through.h"

namespace tessera {
namespace {

/// Below this range a row counts as zeros (format/reference.h).
constexpr double kTinyRow = 0x1p-100;

/// A scalar as a tensor beside x: libtorch divides by a plain number through its reciprocal, which rounds
/// twice.
at::Tensor scalar_like(const at::Tensor& x, double value) {
  return at::full({}, value, x.options());
}

/// Smallest and largest value of each row, [..., 1]; NaN where the row holds one. Two reductions: on the CPU
/// at::aminmax takes 25 times as long as both.
std::tuple<at::Tensor, at::Tensor> row_range(const at::Tensor& x) {
  return {at::amin(x, {-1}, /*keepdim=*/true), at::amax(x, {-1}, /*keepdim=*/true)};
}

/// Rows with NaN or infinity: scale NaN, codes and zero point 0.
QuantizedRows mark_broken(QuantizedRows rows, const at::Tensor& finite) {
  const at::Tensor broken = finite.logical_not();
  if (!broken.any().item<bool>()) return rows;
  rows.codes.masked_fill_(broken, 0);
  rows.scale.masked_fill_(broken, std::numeric_limits<float>::quiet_NaN());
  if (rows.zero_point.defined()) rows.zero_point.masked_fill_(broken, 0);
  if (rows.offset.defined()) rows.offset.masked_fill_(broken, 0);
  return rows;
}

QuantizedRows symmetric_rows(const at::Tensor& x, double qmax) {
  const auto [lo, hi] = row_range(x);
  const at::Tensor absmax = at::maximum(lo.neg(), hi), divisor = scalar_like(x, qmax);
  const at::Tensor inverse = (divisor / absmax).masked_fill_(absmax < kTinyRow, 0);
  const at::Tensor scale = (absmax / divisor).masked_fill_(absmax < kTinyRow, 0);
  // No clamp: |x * inverse| <= qmax * (1 + 2^-23), which rounds to qmax.
  return mark_broken({(x * inverse).round_(), scale, {}, {}}, at::isfinite(absmax));
}

QuantizedRows asymmetric_rows(const at::Tensor& x, int bits) {
  const double levels = (1 << bits) - 1, half = 1 << (bits - 1);
  auto [lo, hi] = row_range(x);
  lo.clamp_max_(0);
  hi.clamp_min_(0);
  const at::Tensor finite = at::isfinite(lo).logical_and_(at::isfinite(hi)), empty = (hi - lo) < kTinyRow;
  lo.masked_fill_(empty, 0);
  hi.masked_fill_(empty, 1);
  const at::Tensor scale = (hi - lo) / scalar_like(x, levels), zero = (-lo / scale).round_();
  const at::Tensor codes = (x / scale).round_().add_(zero).clamp_(0, levels).sub_(half);
  return mark_broken({codes, scale, zero - half, {}}, finite);
}

QuantizedRows real_zero_rows(const at::Tensor& x, int bits) {
  constexpr float kLeastScale = 1e-6f;
  const double levels = (1 << bits) - 1, half = 1 << (bits - 1);
  if (x.size(-1) == 0) {
    const at::Tensor none = at::zeros_like(x.sum(-1, /*keepdim=*/true));
    return {x, none + kLeastScale, {}, none};
  }
  const auto [lo, hi] = row_range(x);
  const at::Tensor scale = ((hi - lo) / scalar_like(x, levels)).clamp_min_(kLeastScale);
  const at::Tensor codes = ((x - lo) / scale).round_().clamp_(0, levels).sub_(half);
  return mark_broken({codes, scale, {}, lo + scale * half}, at::isfinite(hi - lo));
}

QuantizedRows static_rows(const at::Tensor& x, double qmax, float scale) {
  const auto [lo, hi] = row_range(x);
  const at::Tensor step = scalar_like(x, scale);
  const at::Tensor finite = at::isfinite(lo).logical_and_(at::isfinite(hi));
  return mark_broken({(x / step).round_().clamp_(-qmax, qmax), step.expand_as(lo).clone(), {}, {}}, finite);
}

template <class T>
at::Tensor float_tensor(std::span<const T> values, const Shape& shape, const at::Device& device) {
  at::Tensor host = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), host.data_ptr<float>());
  return host.to(device);
}

at::Tensor to_torch(const Tensor& tensor, const at::Device& device) {
  if (tensor.empty()) return {};
  if (tensor.dtype() == DType::kI32) return float_tensor(tensor.as<int32_t>(), tensor.shape(), device);
  const std::vector<float> values = to_floats(tensor.view());
  return float_tensor(std::span<const float>(values), tensor.shape(), device);
}

/// The operand w8, [N, K], on the CPU.
template <class T>
at::Tensor expand(const QuantizedLinear& linear) {
  at::Tensor w8 = at::empty({linear.n, linear.k}, c10::CppTypeToScalarType<T>::value);
  T* out = w8.data_ptr<T>();
  parallel_for(linear.n, [&](int64_t n) {
    expand_row(linear, n, std::span<T>(out + n * linear.k, static_cast<size_t>(linear.k)));
  });
  return w8;
}

at::Tensor index_tensor(std::span<const int32_t> values, const at::Device& device) {
  const std::vector<int64_t> wide(values.begin(), values.end());
  return at::tensor(wide, at::kLong).to(device);
}

}  // namespace

QuantizedRows quantize_rows(const at::Tensor& x, const ActivationFormat& format, float static_scale) {
  assert(!format.weight_only());
  const double qmax = (1 << (format.bits - 1)) - 1;
  if (!format.per_token) return static_rows(x, qmax, static_scale);
  if (format.symmetric) return symmetric_rows(x, qmax);
  return format.real_zero ? real_zero_rows(x, format.bits) : asymmetric_rows(x, format.bits);
}

at::Tensor fake_quantize_rows(const at::Tensor& x, const ActivationFormat& format, float static_scale) {
  if (format.weight_only()) return x;
  QuantizedRows rows = quantize_rows(x, format, static_scale);
  if (rows.zero_point.defined()) rows.codes.sub_(rows.zero_point);
  rows.codes.mul_(rows.scale);
  return rows.offset.defined() ? rows.codes.add_(rows.offset) : rows.codes;
}

FakeQuantLinear::FakeQuantLinear(const QuantizedLinear& linear, const at::Device& device)
    : activation_(linear.activation), map_(linear) {
  const bool whole = linear.weight_format != WeightFormat::kUint4Float;
  w8_ = (whole ? expand<int8_t>(linear) : expand<float>(linear)).to(device).to(at::kFloat);
  scale_ = to_torch(linear.scale, device);
  row_sum_ = to_torch(linear.row_sum, device);
  bias_ = to_torch(linear.bias, device);
  if (!linear.outlier_index.empty()) {
    outlier_index_ = index_tensor(linear.outlier_index.as<int32_t>(), device);
    outlier_weight_ = to_torch(linear.outlier_weight, device);
  }
  if (!activation_.per_token) input_scale_ = linear.input_scale.as<float>()[0];
}

QuantizedRows FakeQuantLinear::quantize(const at::Tensor& mapped) const {
  QuantizedRows rows = quantize_rows(mapped, activation_, input_scale_);
  if (!map_.repeats()) return rows;
  if (rows.zero_point.defined()) rows.codes.sub_(rows.zero_point);
  return {map_.repeated(rows.codes), rows.scale, {}, {}};
}

at::Tensor FakeQuantLinear::forward(const at::Tensor& x) const {
  const at::Tensor mapped = map_.apply(x);
  at::Tensor y;
  if (activation_.weight_only()) {
    y = at::matmul(mapped, w8_.t()).mul_(scale_);
  } else {
    const QuantizedRows rows = quantize(mapped);
    y = at::matmul(rows.codes, w8_.t());
    if (rows.zero_point.defined()) y.sub_(rows.zero_point * row_sum_);
    y.mul_(scale_).mul_(rows.scale);
    if (rows.offset.defined()) y.add_(rows.offset * (scale_ * row_sum_));
  }
  return completed(y, x, bias_);
}

at::Tensor FakeQuantLinear::completed(at::Tensor y, const at::Tensor& x, const at::Tensor& bias) const {
  if (outlier_index_.defined()) {
    y.add_(at::matmul(x.index_select(-1, outlier_index_), outlier_weight_.t()));
  }
  return bias.defined() ? y.add_(bias) : y;
}

at::Tensor FakeQuantLinear::accumulators(const at::Tensor& x) const {
  const at::Tensor codes = quantize(map_.apply(x)).codes;
  return at::matmul(codes.to(at::kDouble), w8_.to(at::kDouble).t()).to(at::kLong);
}

at::Tensor FakeQuantLinear::weight() const {
  return w8_ * scale_.unsqueeze(1);
}

at::Tensor FakeQuantLinear::rounded_input(const at::Tensor& x) const {
  return map_.repeated(round_straight_through(map_.apply(x), activation_, input_scale_));
}

at::Tensor FakeQuantLinear::product(const at::Tensor& x, const at::Tensor& rounded,
                                    const at::Tensor& weight) const {
  return completed(at::matmul(rounded, weight.t()), x, bias_);
}

at::Tensor FakeQuantLinear::product(const at::Tensor& x, const at::Tensor& rounded, const at::Tensor& scale,
                                    const at::Tensor& bias) const {
  return completed(at::matmul(rounded, w8_.t()) * scale, x, bias);
}

LinearFn with_shared_inputs(
    std::function<at::Tensor(LinearId, const at::Tensor&)> rounded,
    std::function<at::Tensor(LinearId, const at::Tensor&, const at::Tensor&)> product) {
  return [rounded = std::move(rounded), product = std::move(product), seen = at::Tensor(),
          shared = at::Tensor()](LinearId id, const at::Tensor& x) mutable {
    if (!seen.is_same(x)) {
      seen = x;
      shared = rounded(id, x);
    }
    return product(id, x, shared);
  };
}

LinearFn fake_quant_linears(const PerLinear<std::optional<QuantizedLinear>>& quantized,
                            const at::Device& device) {
  auto linears = std::make_shared<PerLinear<std::optional<FakeQuantLinear>>>(quantized.size());
  for (size_t id = 0; id < quantized.size(); ++id) {
    if (quantized[id]) (*linears)[id].emplace(*quantized[id], device);
  }
  return [linears](LinearId id, const at::Tensor& x) {
    assert((*linears)[id]);
    return (*linears)[id]->forward(x);
  };
}

}  // namespace tessera
