// The check passes where the kernels are right, and sees a single output that is not.
#include "tessera/eval/kernel_check.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tessera/base/error.h"
#include "tessera/model/test_backends.h"
#include "tessera/model/test_quantized_llama.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class KernelCheckTest : public testing::Test {
 protected:
  KernelCheck check(const TestLlama& llama, Backend& backend) {
    llama.write(dir_);
    Reporter silent;
    return check_kernels(dir_, backend, silent);
  }
  void TearDown() override { fs::remove_all(dir_); }

  fs::path dir_ = fs::temp_directory_path() / fmt::format("tessera_kernel_check_{}", ::getpid());
};

TEST_F(KernelCheckTest, KernelsOfEveryIsaEqualTheReference) {
  for (const TestBackend& backend : all_backends()) {
    for (const auto format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
      for (const int bits : {4, 8, 16}) {
        SCOPED_TRACE(fmt::format("{}, {}, {} bits", backend.name(), name_of(format), bits));
        const KernelCheck result = check(quantized_test_llama(format, {.bits = bits}), *backend.make());
        EXPECT_EQ(result.layers, 2 * 7);
        EXPECT_EQ(result.outputs % (2 * 17), 0);
        EXPECT_EQ(result.outputs_off, 0);
        EXPECT_EQ(result.first_off, "");
      }
    }
  }
}

TEST_F(KernelCheckTest, KernelsOfOtherToolsCheckpointsEqualTheReference) {
  const auto backend = best_backend().make();
  Reporter silent;
  for (const char* name : {"ct-w4a8", "ct-w8a8-static", "gptq-act-order", "awq-g32", "qqq-g128"}) {
    SCOPED_TRACE(name);
    const fs::path dir = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "foreign" / name;
    const KernelCheck result = check_kernels(dir, *backend, silent);
    EXPECT_EQ(result.layers, 7);
    EXPECT_EQ(result.first_off, "");
  }
}

TEST_F(KernelCheckTest, SeesOneWrongOutput) {
  const auto backend = best_backend().make();
  const QuantizedLinear linear = random_layer({.format = WeightFormat::kInt4, .n = 32, .k = 64}, 1);
  std::vector<float> x(3 * 64), expected(3 * 32);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3;
  reference_forward(linear, x, 3, expected);
  KernelCheck result;
  check_kernel("right", linear, x, 3, expected, *backend, result);
  EXPECT_EQ(result.outputs_off, 0);
  expected[40] = std::nextafter(expected[40], 1e9f);
  check_kernel("wrong", linear, x, 3, expected, *backend, result);
  EXPECT_EQ(result.layers, 2);
  EXPECT_EQ(result.outputs, 2 * 2 * 3 * 32);
  EXPECT_EQ(result.outputs_off, 2) << "together and by itself";
  EXPECT_EQ(result.first_off, "wrong");
}

TEST_F(KernelCheckTest, FloatCheckpointsAreErrors) {
  EXPECT_THROW(check(TestLlama(), *best_backend().make()), Error);
}

}  // namespace
}  // namespace tessera
