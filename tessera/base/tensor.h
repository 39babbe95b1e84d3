// Tensors on the host: a view of bytes that somebody else owns, and one that owns its bytes.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/dtype.h"

namespace tessera {

using Shape = std::vector<int64_t>;

/// Product of the extents; 1 for a scalar.
inline int64_t element_count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t extent : shape) n *= extent;
  return n;
}

/// "[2, 3]"
std::string to_string(const Shape& shape);

/// What a tensor is, without its data.
struct TensorInfo {
  DType dtype = DType::kF32;
  Shape shape;

  int64_t size() const { return element_count(shape); }
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype); }
};

/// A dense row-major tensor that lives elsewhere (a mapped file, a Tensor). Data are aligned to
/// the dtype but where a reader of files says otherwise.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  const std::byte* data = nullptr;
  std::shared_ptr<const void> owner = nullptr;  ///< keeps `data` alive; null: somebody else does

  int64_t size() const { return element_count(shape); }
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype); }

  /// The elements; T must match dtype.
  template <class T>
  std::span<const T> as() const {
    assert(DTypeOf<T>::value == dtype);
    return {reinterpret_cast<const T*>(data), static_cast<size_t>(size())};
  }
};

/// A dense row-major tensor that owns its bytes, aligned to 64. Movable, not copyable by accident.
class Tensor {
 public:
  Tensor() = default;
  /// Zeros.
  Tensor(DType dtype, Shape shape);
  explicit Tensor(const TensorView& view);

  template <class T>
  static Tensor from(std::span<const T> values, Shape shape) {
    return Tensor(
        TensorView{DTypeOf<T>::value, std::move(shape), reinterpret_cast<const std::byte*>(values.data())});
  }

  bool empty() const { return !data_; }
  DType dtype() const { return view_.dtype; }
  const Shape& shape() const { return view_.shape; }
  int64_t size() const { return empty() ? 0 : view_.size(); }
  size_t bytes() const { return empty() ? 0 : view_.bytes(); }
  const TensorView& view() const { return view_; }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }

  template <class T>
  std::span<T> as() {
    assert(empty() || DTypeOf<T>::value == dtype());
    return {reinterpret_cast<T*>(data_.get()), static_cast<size_t>(size())};
  }
  template <class T>
  std::span<const T> as() const {
    assert(empty() || DTypeOf<T>::value == dtype());
    return {reinterpret_cast<const T*>(data_.get()), static_cast<size_t>(size())};
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  TensorView view_;
};

/// A view that keeps the tensor alive.
TensorView share(Tensor tensor);

/// Tells the system that a view into a mapped file is not needed for now (mapped_file.h). Does nothing to a
/// view that owns its data.
void release_pages(const TensorView& view);

/// Converts an F32, F16 or BF16 tensor to float. `out` holds view.size() elements. Throws Error for other
/// dtypes.
void copy_to_float(const TensorView& view, std::span<float> out);
std::vector<float> to_floats(const TensorView& view);

}  // namespace tessera
