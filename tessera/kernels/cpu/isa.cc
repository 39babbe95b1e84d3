// Which instruction set the CPU backend uses; decided once, at start.
#include <cstdlib>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/kernels/cpu/isa.h"
#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr CpuIsa kAll[] = {CpuIsa::kGeneric, CpuIsa::kAvx2, CpuIsa::kAvx512Vnni};

}  // namespace

std::string_view name_of(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kGeneric:
      return "generic";
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kAvx512Vnni:
      return "avx512vnni";
  }
  return "";
}

const CpuKernels& kernels_for(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAvx512Vnni:
      return avx512vnni_kernels();
    case CpuIsa::kAvx2:
      return avx2_kernels();
    case CpuIsa::kGeneric:
      break;
  }
  return generic_kernels();
}

bool processor_has(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kGeneric:
      return true;
    case CpuIsa::kAvx2:
      return cpu_info().avx2;
    case CpuIsa::kAvx512Vnni:
      return cpu_info().avx512_vnni;
  }
  return false;
}

std::vector<CpuIsa> available_cpu_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : kAll) {
    if (processor_has(isa)) isas.push_back(isa);
  }
  return isas;
}

CpuIsa detect_cpu_isa() {
  const char* wish = std::getenv("TESSERA_ISA");
  if (!wish || !*wish) return available_cpu_isas().back();
  for (CpuIsa isa : kAll) {
    if (wish != name_of(isa)) continue;
    if (!processor_has(isa)) throw Error("TESSERA_ISA={}: this processor lacks that instruction set", wish);
    return isa;
  }
  throw Error("TESSERA_ISA={}: unknown instruction set; known are generic, avx2, avx512vnni", wish);
}

}  // namespace tessera
