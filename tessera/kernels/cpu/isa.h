// The instruction sets of this processor.
#pragma once

#include <vector>

#include "tessera/kernels/backend.h"

namespace tessera {

bool processor_has(CpuIsa isa);

/// Those that this processor has, from the slowest.
std::vector<CpuIsa> available_cpu_isas();

}  // namespace tessera
