// The kernels that are written once for all instruction sets, and the table of one set's. Only for the
// kernels.cc of a set, behind its lanes.h and integer_panel.h.
#pragma once

#include "tessera/kernels/cpu/kernel_table.h"
// The order matters: each uses what stands before it.
// clang-format off
#include "tessera/kernels/cpu/row_ops-inl.h"
#include "tessera/kernels/cpu/float_matmul-inl.h"
#include "tessera/kernels/cpu/epilogue-inl.h"
#include "tessera/kernels/cpu/weight_only-inl.h"
#include "tessera/kernels/cpu/attention-inl.h"
#include "tessera/kernels/cpu/peak-inl.h"
// clang-format on

namespace tessera {
namespace {

constexpr CpuKernels kernels_of(CpuIsa isa) {
  return {.isa = isa,
          .add = add,
          .norm = norm,
          .glu = glu,
          .gather = gather,
          .quantize = quantize,
          .integer_panel = integer_panel,
          .weight_only_panel = weight_only_panel,
          .integer_epilogue = integer_epilogue,
          .float_epilogue = float_epilogue,
          .float_panel = float_panel,
          .packed_float_panel = packed_float_panel,
          .attend = attend,
          .to_float = to_float,
          .to_half = to_half,
          .integer_peak = integer_peak,
          .float_peak = float_peak,
          .read_floats = read_floats};
}

}  // namespace
}  // namespace tessera
