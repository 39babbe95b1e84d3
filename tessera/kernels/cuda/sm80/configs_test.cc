#include "tessera/kernels/cuda/sm80/configs.h"

#include <gtest/gtest.h>

namespace tessera::cuda::sm80 {
namespace {

GemmProblem problem(int code_bits, WeightLayout layout, int64_t m) {
  GemmProblem p;
  p.weights = {layout, 4096, 4096};
  p.m = m;
  p.code_bits = code_bits;
  return p;
}

TEST(Sm80Configs, FourBitProductsNeedFourBitsOnBothSidesAndADevice) {
  constexpr int kSms = 108;
  const auto family = [&](const GemmProblem& p, bool int4_products) {
    return sm80::choose_config(p, kSms, int4_products).family;
  };
  EXPECT_EQ(family(problem(4, {4, 0}, 2048), true), KernelFamily::kSm80Int4);
  EXPECT_EQ(family(problem(4, {4, 0}, 2048), false), KernelFamily::kSm80);
  EXPECT_EQ(family(problem(8, {4, 0}, 2048), true), KernelFamily::kSm80);
  EXPECT_EQ(family(problem(4, {8, 0}, 2048), true), KernelFamily::kSm80);
  EXPECT_EQ(family(problem(4, {4, 128}, 2048), true), KernelFamily::kSm80);
}

TEST(Sm80Configs, TilesGrowWithTokensAndLeaveRoomForOutliers) {
  int last = 0;
  for (int64_t m : {1, 16, 64, 256, 4096}) {
    const GemmConfig config = sm80::choose_config(problem(8, {4, 0}, m), 108);
    EXPECT_GE(config.outputs * config.tokens, last);
    last = config.outputs * config.tokens;
  }
  GemmProblem p = problem(8, {4, 0}, 4096);
  const GemmConfig largest = sm80::choose_config(p, 108);
  p.outliers.count = 256;
  EXPECT_FALSE(runs(largest, p));
  EXPECT_TRUE(runs(sm80::choose_config(p, 108), p));
}

}  // namespace
}  // namespace tessera::cuda::sm80
