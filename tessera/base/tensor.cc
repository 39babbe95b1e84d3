// Host tensors.
#include "tessera/base/tensor.h"

#include <fmt/ranges.h>

#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/mapped_file.h"

namespace tessera {

std::string to_string(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

namespace {

std::byte* uninitialized(size_t bytes) {
  return new (std::align_val_t{64}) std::byte[bytes];
}

}  // namespace

Tensor::Tensor(DType dtype, Shape shape) {
  view_ = {dtype, std::move(shape), nullptr};
  data_.reset(uninitialized(view_.bytes()));
  std::memset(data_.get(), 0, view_.bytes());
  view_.data = data_.get();
}

Tensor::Tensor(const TensorView& view) {
  view_ = {view.dtype, view.shape, nullptr};
  data_.reset(uninitialized(view.bytes()));
  if (view.bytes() > 0) std::memcpy(data_.get(), view.data, view.bytes());
  view_.data = data_.get();
}

TensorView share(Tensor tensor) {
  const auto owner = std::make_shared<const Tensor>(std::move(tensor));
  TensorView view = owner->view();
  view.owner = owner;
  return view;
}

void release_pages(const TensorView& view) {
  if (!view.owner) release_pages({view.data, view.bytes()});
}

namespace {

template <class T>
void convert(const TensorView& view, std::span<float> out) {
  const std::span<const T> in = view.as<T>();
  for (size_t i = 0; i < in.size(); ++i) out[i] = to_float(in[i]);
}

}  // namespace

void copy_to_float(const TensorView& view, std::span<float> out) {
  assert(out.size() == static_cast<size_t>(view.size()));
  switch (view.dtype) {
    case DType::kF32:
      return convert<float>(view, out);
    case DType::kF16:
      return convert<Half>(view, out);
    case DType::kBF16:
      return convert<BFloat16>(view, out);
    default:
      throw Error("cannot read a {} tensor as floating point", name_of(view.dtype));
  }
}

std::vector<float> to_floats(const TensorView& view) {
  std::vector<float> out(static_cast<size_t>(view.size()));
  copy_to_float(view, out);
  return out;
}

}  // namespace tessera
