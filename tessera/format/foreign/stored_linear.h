// The tensors of one linear in another tool's checkpoint.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/format/quantized_linear.h"

namespace tessera::foreign {

/// A view into the checkpoint; spans that it gives live as long as it does. Every getter throws Error
/// (folder, tensor) when the tensor is absent, or of another shape or type than asked for.
class StoredLinear {
 public:
  StoredLinear(const Checkpoint& checkpoint, std::string prefix)
      : checkpoint_(checkpoint), prefix_(std::move(prefix)) {}

  /// "folder: linear", to open errors.
  std::string where() const { return checkpoint_.dir().string() + ": " + prefix_; }
  bool has(std::string_view name) const { return checkpoint_.contains(full(name)); }
  TensorView at(std::string_view name) const { return checkpoint_.at(full(name)); }

  /// The extents of a matrix without empty sides.
  std::pair<int64_t, int64_t> matrix(std::string_view name) const {
    const Shape shape = at(name).shape;
    if (shape.size() == 2 && shape[0] > 0 && shape[1] > 0) return {shape[0], shape[1]};
    throw Error("{}.{}: has shape {}, expected a matrix", where(), name, to_string(shape));
  }
  template <class T>
  std::span<const T> values(std::string_view name, const Shape& shape) const {
    const TensorView tensor = at(name);
    if (tensor.dtype == DTypeOf<T>::value && tensor.shape == shape) {
      if (tensor.owner) copies_.push_back(tensor.owner);
      return tensor.as<T>();
    }
    throw Error("{}.{}: is {} {}, expected {} {}", where(), name, name_of(tensor.dtype),
                to_string(tensor.shape), name_of(DTypeOf<T>::value), to_string(shape));
  }
  /// Of any float type.
  std::vector<float> floats(std::string_view name, const Shape& shape) const {
    const TensorView tensor = checkpoint_.at(full(name), shape);
    if (is_parameter_type(tensor.dtype)) return to_floats(tensor);
    throw Error("{}.{}: is {}, expected floats", where(), name, name_of(tensor.dtype));
  }
  /// F32 [N], or empty where the linear has none.
  Tensor bias(int64_t n) const {
    return has("bias") ? Tensor::from<float>(floats("bias", {n}), {n}) : Tensor();
  }

 private:
  std::string full(std::string_view name) const { return fmt::format("{}.{}", prefix_, name); }

  const Checkpoint& checkpoint_;
  std::string prefix_;
  mutable std::vector<std::shared_ptr<const void>> copies_;  ///< of tensors that views could not show
};

}  // namespace tessera::foreign
