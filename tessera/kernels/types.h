// Small enumerations of the kernels, apart from backend.h so that the files compiled for one instruction set
// need nothing else.
#pragma once

#include <cstdint>

namespace tessera {

/// kGelu: x Phi(x); kGeluTanh: its approximation 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
enum class GluActivation : uint8_t { kSilu, kRelu, kGelu, kGeluTanh };

/// Instruction sets of the CPU backend, from the slowest.
enum class CpuIsa : uint8_t { kGeneric, kAvx2, kAvx512Vnni };

}  // namespace tessera
