// Small enumerations of the kernels, apart from backend.h so that the files compiled for one instruction set
// need nothing else.
#pragma once

#include <cstdint>

namespace tessera {

enum class GluActivation : uint8_t { kSilu, kRelu, kGelu };

/// Instruction sets of the CPU backend, from the slowest.
enum class CpuIsa : uint8_t { kGeneric, kAvx2, kAvx512Vnni };

}  // namespace tessera
