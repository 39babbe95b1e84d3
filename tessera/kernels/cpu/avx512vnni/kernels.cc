// The CPU kernels for avx512vnni.
#include "tessera/kernels/cpu/kernel_table.h"
// The order matters: each uses what stands before it.
// clang-format off
#include "tessera/kernels/cpu/avx512vnni/lanes.h"
#include "tessera/kernels/cpu/avx512vnni/integer_panel.h"
#include "tessera/kernels/cpu/kernels-inl.h"
// clang-format on

namespace tessera {

const CpuKernels& avx512vnni_kernels() {
  static constexpr CpuKernels kTable = kernels_of(CpuIsa::kAvx512Vnni);
  return kTable;
}

}  // namespace tessera
