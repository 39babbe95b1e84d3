// The CPU kernels for avx512vnni.
#include "tessera/kernels/cpu/kernel_table.h"
// The order matters: each uses what stands before it.
// clang-format off
#include "tessera/kernels/cpu/avx512vnni/lanes.h"
#include "tessera/kernels/cpu/avx512vnni/integer_panel.h"
#include "tessera/kernels/cpu/row_ops-inl.h"
#include "tessera/kernels/cpu/float_matmul-inl.h"
#include "tessera/kernels/cpu/attention-inl.h"
#include "tessera/kernels/cpu/peak-inl.h"
// clang-format on

namespace tessera {

const CpuKernels& avx512vnni_kernels() {
  static constexpr CpuKernels kTable = {CpuIsa::kAvx512Vnni, norm,        glu,        quantize, integer_panel,
                                        integer_epilogue,    float_panel, attend,     to_float, to_half,
                                        integer_peak,        float_peak,  read_floats};
  return kTable;
}

}  // namespace tessera
