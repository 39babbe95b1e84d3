// The CPU kernels for generic.
#include "tessera/kernels/cpu/kernel_table.h"
// The order matters: each uses what stands before it.
// clang-format off
#include "tessera/kernels/cpu/generic/lanes.h"
#include "tessera/kernels/cpu/generic/integer_panel.h"
#include "tessera/kernels/cpu/kernels-inl.h"
// clang-format on

namespace tessera {

const CpuKernels& generic_kernels() {
  static constexpr CpuKernels kTable = kernels_of(CpuIsa::kGeneric);
  return kTable;
}

}  // namespace tessera
