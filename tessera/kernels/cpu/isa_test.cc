// Choice of the instruction set.
#include "tessera/kernels/cpu/cpu_backend.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

/// Sets TESSERA_ISA for the life of a test.
class IsaTest : public testing::Test {
 protected:
  ~IsaTest() override { unsetenv("TESSERA_ISA"); }
  static CpuIsa detect(const char* wish) {
    setenv("TESSERA_ISA", wish, 1);
    return detect_cpu_isa();
  }
};

TEST_F(IsaTest, TheBestIsTakenUnlessTheEnvironmentNamesAnother) {
  unsetenv("TESSERA_ISA");
  EXPECT_EQ(detect_cpu_isa(), available_cpu_isas().back());
  EXPECT_EQ(detect(""), available_cpu_isas().back());
  for (CpuIsa isa : available_cpu_isas()) {
    EXPECT_EQ(detect(std::string(name_of(isa)).c_str()), isa);
    EXPECT_EQ(kernels_for(isa).isa, isa);
  }
}

TEST_F(IsaTest, UnknownOrMissingInstructionSetsAreRefused) {
  EXPECT_THROW(detect("mmx"), Error);
  for (CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512Vnni}) {
    if (processor_has(isa)) continue;
    EXPECT_THROW(detect(std::string(name_of(isa)).c_str()), Error);
    EXPECT_THROW(make_cpu_backend(isa), Error);
  }
}

}  // namespace
}  // namespace tessera
