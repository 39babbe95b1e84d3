// The instruction sets of this processor.
#pragma once

#include <string_view>
#include <vector>

#include "tessera/kernels/types.h"

namespace tessera {

std::string_view name_of(CpuIsa isa);

bool processor_has(CpuIsa isa);

/// Those that this processor has, from the slowest.
std::vector<CpuIsa> available_cpu_isas();

/// The best one that this processor has, unless the environment variable TESSERA_ISA names a lower one.
/// Throws Error when TESSERA_ISA is unknown or beyond the processor.
CpuIsa detect_cpu_isa();

}  // namespace tessera
