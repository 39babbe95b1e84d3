// Between the tensors of files and those of libtorch.
#pragma once

#include <ATen/ATen.h>

#include "tessera/base/tensor.h"

namespace tessera {

/// A float32 copy of an F32, F16 or BF16 tensor; the pages of a mapped file are then released.
at::Tensor to_float_tensor(const TensorView& view, const at::Device& device);

/// A view of a contiguous float32 tensor in host memory.
TensorView view_of(const at::Tensor& tensor);

}  // namespace tessera
