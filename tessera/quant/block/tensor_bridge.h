// Between the tensors of files and those of libtorch.
#pragma once

#include <ATen/ATen.h>

#include "tessera/base/tensor.h"

namespace tessera {

/// A float32 copy of an F32, F16 or BF16 tensor; the pages of a mapped file are then released.
at::Tensor to_float_tensor(const TensorView& view, const at::Device& device);

/// A copy in float32.
Tensor to_host_tensor(const at::Tensor& tensor);

/// A view of a contiguous float32, float16 or bfloat16 tensor in host memory, which it keeps.
TensorView view_of(const at::Tensor& tensor);

/// A float32 tensor rounded to F16 or BF16; `tensor` itself for other types, or where a value would overflow.
at::Tensor narrowed(const at::Tensor& tensor, DType dtype);

}  // namespace tessera
