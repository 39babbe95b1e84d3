// What this processor can do.
#pragma once

#include <string>

namespace tessera {

struct CpuInfo {
  std::string model;    ///< marketing name, from the kernel
  int cores = 1;        ///< processors that this process may run on
  bool avx2 = false;    ///< AVX2, FMA and F16C
  bool avx512 = false;  ///< AVX-512 F, BW, VL, DQ
  bool avx512_vnni = false;
};

/// Detected on first use. The operating system's support for the registers is part of the answer.
const CpuInfo& cpu_info();

/// Physical memory that is free for use, in bytes.
size_t available_memory();

/// Resident memory of this process now, in bytes.
size_t resident_memory();

/// Highest resident memory of this process so far, in bytes.
size_t peak_memory();
/// Lets peak_memory() count from now on, where the system allows it.
void reset_peak_memory();

}  // namespace tessera
