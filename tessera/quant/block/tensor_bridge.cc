// Conversions between TensorView and at::Tensor.
#include "tessera/quant/block/tensor_bridge.h"

#include <cassert>

namespace tessera {

at::Tensor to_float_tensor(const TensorView& view, const at::Device& device) {
  at::Tensor host = at::empty(view.shape, at::kFloat);
  copy_to_float(view, {host.data_ptr<float>(), static_cast<size_t>(host.numel())});
  release_pages(view);
  return host.to(device);
}

TensorView view_of(const at::Tensor& tensor) {
  assert(tensor.is_contiguous() && tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat);
  return {DType::kF32, tensor.sizes().vec(), static_cast<const std::byte*>(tensor.data_ptr())};
}

}  // namespace tessera
