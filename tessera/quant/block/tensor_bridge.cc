// Conversions between TensorView and at::Tensor.
#include "tessera/quant/block/tensor_bridge.h"

#include <cassert>

namespace tessera {
namespace {

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    default:
      assert(tensor.scalar_type() == at::kFloat);
      return DType::kF32;
  }
}

}  // namespace

at::Tensor to_float_tensor(const TensorView& view, const at::Device& device) {
  at::Tensor host = at::empty(view.shape, at::kFloat);
  copy_to_float(view, {host.data_ptr<float>(), static_cast<size_t>(host.numel())});
  release_pages(view);
  return host.to(device);
}

TensorView view_of(const at::Tensor& tensor) {
  assert(tensor.is_contiguous() && tensor.device().is_cpu());
  return {dtype_of(tensor), tensor.sizes().vec(), static_cast<const std::byte*>(tensor.data_ptr())};
}

at::Tensor narrowed(const at::Tensor& tensor, DType dtype) {
  if (dtype != DType::kF16 && dtype != DType::kBF16) return tensor;
  const at::Tensor narrow = tensor.to(dtype == DType::kF16 ? at::kHalf : at::kBFloat16);
  return at::isfinite(narrow).all().item<bool>() ? narrow : tensor;
}

}  // namespace tessera
