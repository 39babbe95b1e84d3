// The backends that tests run on: the reference and every instruction set of this processor. Test code only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/ref/reference_backend.h"

namespace tessera {

struct TestBackend {
  std::optional<CpuIsa> isa;  ///< empty: the reference

  std::string name() const { return isa ? std::string(name_of(*isa)) : "reference"; }
  std::unique_ptr<Backend> make() const { return isa ? make_cpu_backend(*isa) : make_reference_backend(); }
};

inline TestBackend best_backend() {
  return {detect_cpu_isa()};
}

inline std::vector<TestBackend> all_backends() {
  std::vector<TestBackend> backends{{std::nullopt}};
  for (CpuIsa isa : {CpuIsa::kGeneric, CpuIsa::kAvx2, CpuIsa::kAvx512Vnni}) {
    if (isa <= detect_cpu_isa()) backends.push_back({isa});
  }
  return backends;
}

}  // namespace tessera
