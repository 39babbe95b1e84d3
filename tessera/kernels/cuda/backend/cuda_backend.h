// The CUDA backend.
#pragma once

#include <memory>

#include "tessera/kernels/backend.h"

namespace tessera {

/// Throws Error when there is no such GPU, its driver is too old, or it is older than compute capability 8.0.
std::unique_ptr<Backend> make_cuda_backend(int device);

}  // namespace tessera
