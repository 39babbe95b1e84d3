// Orders and orthogonality of the rotations.
#include "tessera/quant/block/hadamard.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

double distance_from_identity(const at::Tensor& q) {
  return (at::matmul(q.t(), q) - at::eye(q.size(0), at::kDouble)).abs().max().item<double>();
}

TEST(Hadamard, RowsAreOrthogonalSigns) {
  for (const int64_t n : {1, 2, 4, 12, 20, 24, 28, 36, 60, 64, 76, 104, 140, 256, 384, 640}) {
    const auto matrix = hadamard_matrix(n);
    ASSERT_TRUE(matrix) << n;
    EXPECT_TRUE(at::equal(matrix->abs(), at::ones({n, n}, at::kDouble))) << n;
    const at::Tensor product = at::matmul(*matrix, matrix->t());
    EXPECT_TRUE(at::equal(product, at::eye(n, at::kDouble) * static_cast<double>(n))) << n;
  }
}

TEST(Hadamard, HiddenSizesOfCommonModelsHaveOne) {
  for (const int64_t n : {2048, 2560, 3072, 3584, 4096, 5120}) EXPECT_TRUE(hadamard_matrix(n)) << n;
}

TEST(Hadamard, OrdersThatDoNotExist) {
  for (const int64_t n : {-4, 0, 3, 6, 10, 14}) EXPECT_FALSE(hadamard_matrix(n)) << n;
}

TEST(Rotation, T2_IsOrthogonalAndSeeded) {
  for (const int64_t n : {64, 96, 90}) {  // 90 has no Hadamard matrix
    for (const bool hadamard : {true, false}) {
      const at::Tensor q = random_rotation(n, 7, hadamard);
      EXPECT_LT(distance_from_identity(q), 1e-10) << n;
      EXPECT_TRUE(at::equal(q, random_rotation(n, 7, hadamard)));
      EXPECT_FALSE(at::equal(q, random_rotation(n, 8, hadamard)));
    }
  }
}

TEST(Rotation, KeepsTheMeanWhereAsked) {
  for (const int64_t n : {1, 2, 33, 64}) {
    const at::Tensor q = mean_keeping_rotation(n, 7), ones = at::ones({n}, at::kDouble);
    EXPECT_LT(distance_from_identity(q), 1e-10) << n;
    EXPECT_LT((at::mv(q, ones) - ones).abs().max().item<double>(), 1e-12) << n;
    if (n > 2) {
      EXPECT_LT(q.abs().max().item<double>(), 0.95) << "mixes channels";
    }
    EXPECT_TRUE(at::equal(q, mean_keeping_rotation(n, 7)));
  }
}

}  // namespace
}  // namespace tessera
