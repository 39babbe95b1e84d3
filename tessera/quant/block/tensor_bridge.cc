// Conversions between TensorView and at::Tensor.
#include "tessera/quant/block/tensor_bridge.h"

#include <cassert>
#include <optional>

namespace tessera {
namespace {

std::optional<at::ScalarType> torch_type(DType type) {
  switch (type) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    default:
      return std::nullopt;
  }
}

DType dtype_of(const at::Tensor& tensor) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (torch_type(type) == tensor.scalar_type()) return type;
  }
  assert(false && "a float type of a checkpoint");
  return DType::kF32;
}

}  // namespace

at::Tensor to_float_tensor(const TensorView& view, const at::Device& device) {
  if (const auto type = torch_type(view.dtype); type && !device.is_cpu()) {
    // Converted there: fewer bytes on the way.
    at::Tensor raw = at::from_blob(const_cast<std::byte*>(view.data), view.shape, *type).to(device);
    release_pages(view);
    return raw.to(at::kFloat);
  }
  at::Tensor host = at::empty(view.shape, at::kFloat);
  copy_to_float(view, {host.data_ptr<float>(), static_cast<size_t>(host.numel())});
  release_pages(view);
  return host.to(device);
}

Tensor to_host_tensor(const at::Tensor& tensor) {
  const at::Tensor host = tensor.to(at::kCPU, at::kFloat).contiguous();
  return Tensor::from(std::span<const float>(host.data_ptr<float>(), static_cast<size_t>(host.numel())),
                      host.sizes().vec());
}

TensorView view_of(const at::Tensor& tensor) {
  assert(tensor.is_contiguous() && tensor.device().is_cpu());
  return {dtype_of(tensor), tensor.sizes().vec(), static_cast<const std::byte*>(tensor.data_ptr()),
          std::make_shared<at::Tensor>(tensor)};
}

at::Tensor narrowed(const at::Tensor& tensor, DType dtype) {
  const at::Tensor narrow = tensor.to(torch_type(dtype).value_or(at::kFloat));
  return at::isfinite(narrow).all().item<bool>() ? narrow : tensor;
}

}  // namespace tessera
