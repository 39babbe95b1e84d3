// The CPU kernels for avx2.
#include "tessera/kernels/cpu/kernel_table.h"
// The order matters: each uses what stands before it.
// clang-format off
#include "tessera/kernels/cpu/avx2/lanes.h"
#include "tessera/kernels/cpu/avx2/integer_panel.h"
#include "tessera/kernels/cpu/kernels-inl.h"
// clang-format on

namespace tessera {

const CpuKernels& avx2_kernels() {
  static constexpr CpuKernels kTable = kernels_of(CpuIsa::kAvx2);
  return kTable;
}

}  // namespace tessera
