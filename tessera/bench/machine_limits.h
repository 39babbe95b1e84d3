// What this machine can do at best, measured: the ceilings that benchmarks are compared with.
#pragma once

#include <nlohmann/json.hpp>

#include "tessera/kernels/cpu/isa.h"

namespace tessera {

struct MachineLimits {
  int threads = 0;
  /// Multiplications and additions of int8 codes a second, in registers, with the instructions that the
  /// integer kernels of this ISA are made of. 0 for the generic ISA, which has no such instruction.
  double integer_ops = 0;
  /// The same for float multiply-adds.
  double float_ops = 0;
  /// Bytes a second read from memory, over a buffer several times larger than the last-level cache.
  double read_bandwidth = 0;
};

/// Measures with thread_count() threads; a few tenths of a second. The best of many short runs each.
MachineLimits measure_machine_limits(CpuIsa isa);

/// Beside the name of the processor.
nlohmann::json to_json(const MachineLimits& limits);

/// Bytes of the last-level cache; 32 MiB when the system does not tell.
size_t last_level_cache();

}  // namespace tessera
