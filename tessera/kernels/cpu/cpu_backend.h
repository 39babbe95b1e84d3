// The CPU backend.
#pragma once

#include <memory>

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cpu/isa.h"

namespace tessera {

/// Throws Error when this processor lacks `isa`.
std::unique_ptr<Backend> make_cpu_backend(CpuIsa isa);

}  // namespace tessera
