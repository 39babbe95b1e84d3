// For the programs that link OpenBLAS: which kernels it shall take.
#pragma once

#include <cblas.h>

#include <string_view>
#include <vector>

#include "tessera/base/cpu_info.h"
#include "tessera/program/restart.h"

namespace tessera {

/// OpenBLAS does not know processors younger than itself and takes its AVX2 kernels there, at half speed,
/// where AVX-512 would do.
inline std::vector<EnvironmentSetting> openblas_settings() {
  const std::string_view chosen = openblas_get_corename();
  if (!cpu_info().avx512 || (chosen != "Haswell" && chosen != "Zen")) return {};
  return {{"OPENBLAS_CORETYPE", "SkylakeX"}};
}

}  // namespace tessera
