// Formats of inputs.
#include "tessera/kernels/cuda/backend/cuda_input.h"

#include <cassert>

#include "tessera/base/error.h"
#include "tessera/format/input_map.h"
#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {
namespace {

constexpr int64_t kAlignment = 32;  ///< of rows, in elements

int64_t aligned(int64_t width) {
  return ceil_div(width, kAlignment) * kAlignment;
}

template <class T>
std::unique_ptr<DeviceBuffer> copy_of(const Tensor& tensor) {
  return to_device(tensor.as<T>());
}

}  // namespace

CudaInputFormat::CudaInputFormat(int64_t width) : width_(width), k_(width), halves_(true) {
  if (width % 16 != 0) throw Error("CUDA: a layer with {} inputs; the kernels need a multiple of 16", width);
}

CudaInputFormat::CudaInputFormat(const QuantizedLinear& linear)
    : width_(linear.k_in()), k_(linear.k), halves_(linear.activation.weight_only()) {
  if (halves_) {
    k_ = width_;
    return;
  }
  if (linear.activation.real_zero) {
    throw Error(
        "CUDA: activations with a real zero point have no kernel; quantize with an integer one (without "
        "\"zero\": \"real\" in the recipe)");
  }
  if (k_ % 16 != 0 || width_ % 8 != 0) {
    throw Error(
        "CUDA: an integer layer with {} inputs, {} of them as codes; the kernels need multiples of 8 and 16",
        width_, k_);
  }
  bits_ = linear.activation.bits;
  symmetric_ = linear.activation.symmetric;
  if (!linear.activation.per_token) static_scale_ = linear.input_scale.as<float>()[0];
  repeat_ = copy_of<uint8_t>(linear.input_repeat);
  index_ = copy_of<int32_t>(linear.input_index);
  gain_ = copy_of<float>(linear.input_gain);
  offset_ = copy_of<int32_t>(linear.input_offset);
  const auto outliers = linear.outlier_index.as<int32_t>();
  outliers_ = std::ssize(outliers);
  outlier_index_ = to_device(outliers);
  // Without a map the columns are the inputs that are no outliers.
  if (outliers_ > 0 && !index_) index_ = to_device(std::span<const int32_t>(InputMap(linear).index));
}

int64_t CudaInputFormat::outlier_stride() const {
  return ceil_div(outliers_, kOutlierColumns) * kOutlierColumns;
}

ActivationProblem CudaInputFormat::problem() const {
  ActivationProblem p;
  p.k = k_;
  p.inputs = width_;
  p.bits = bits_;
  p.symmetric = symmetric_;
  p.static_scale = static_scale_;
  p.map = {values_of<int32_t>(index_), values_of<float>(gain_), values_of<int32_t>(offset_),
           values_of<uint8_t>(repeat_)};
  p.outliers = {outliers_, values_of<int32_t>(outlier_index_), nullptr, outlier_stride()};
  return p;
}

CudaInput::CudaInput(int64_t max_rows, int64_t max_width)
    : max_width_(aligned(max_width)),
      codes_(static_cast<size_t>(max_rows * max_width_)),
      scale_(static_cast<size_t>(max_rows) * sizeof(float)),
      zero_(static_cast<size_t>(max_rows) * sizeof(int32_t)),
      halves_(static_cast<size_t>(max_rows * max_width_) * 2) {}

ActivationProblem CudaInput::make(const CudaInputFormat& how, int64_t m) {
  assert(aligned(how.width()) <= max_width_ && how.outlier_stride() <= max_width_);
  format = &how;
  ActivationProblem p = how.problem();
  p.m = m;
  halves_at_ = halves_.data();
  stride_ = aligned(how.k());
  if (how.halves()) {
    p.halves = halves_.data();
    p.halves_stride = stride_;
    return p;
  }
  p.codes = codes_.as<int8_t>();
  p.codes_stride = stride_;
  p.scale = scale_.as<float>();
  p.zero = zero_.as<int32_t>();
  p.outliers.values = halves_.data();
  return p;
}

void CudaInput::refer_to(const CudaInputFormat& how, const void* halves, int64_t stride) {
  format = &how;
  halves_at_ = halves;
  stride_ = stride;
}

}  // namespace tessera::cuda
