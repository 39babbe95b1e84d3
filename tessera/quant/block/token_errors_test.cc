// What one token with nearly all energy may decide: no more than any other.
#include "tessera/quant/block/token_errors.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

/// 31 rows of about one size and a massive one, [2, 16, 64].
at::Tensor with_massive_row() {
  at::manual_seed(1);
  at::Tensor x = at::randn({2, 16, 64});
  x[1][3] *= 1000;
  return x;
}

TEST(TokenErrors, MassiveTokensCountAsMuchAsEightMedianOnes) {
  const at::Tensor x = with_massive_row(), weights = token_weights(x);
  ASSERT_EQ(weights.sizes(), (std::vector<int64_t>{2, 16, 1}));
  const at::Tensor energy = x.square().mean({-1}), counted = energy * weights.squeeze(-1),
                   most = 8 * energy.median();
  EXPECT_TRUE(at::allclose(counted, at::minimum(energy, most)));
  EXPECT_EQ((weights == 1).sum().item<int64_t>(), 31);
  EXPECT_TRUE(at::equal(token_weights(at::zeros({3, 8})), at::ones({3, 1})));
}

TEST(TokenErrors, ErrorsOfAMassiveTokenDoNotOutvoteTheRest) {
  const at::Tensor x = with_massive_row(), noise = at::randn(x.sizes());
  const auto error = [&](double massive, double others) {
    at::Tensor scale = at::full({2, 16, 1}, others);
    scale[1][3] = massive * 1000;
    return weighted_error(x + noise * scale, x).item<double>();
  };
  EXPECT_LT(error(0.2, 0.1), error(0.1, 0.2)) << "31 tokens against one";
  EXPECT_LT(error(0.1, 0.1), error(0.2, 0.1)) << "but it has its vote";
  EXPECT_NEAR(token_errors(x + noise * 0.1, x).median().item<double>(), 0.1, 0.02);
}

TEST(TokenErrors, MaximaAreThoseOfTypicalTokens) {
  const at::Tensor x = with_massive_row();
  EXPECT_GT(x.abs().max().item<double>(), 1000);
  EXPECT_LT(typical_absmax(x).max().item<double>(), 15);
  at::Tensor ordinary = x.clone();
  ordinary[1][3].zero_();
  EXPECT_TRUE((typical_absmax(x) >= typical_absmax(ordinary)).all().item<bool>());
}

TEST(TokenErrors, ZerosAreExactOrInfinitelyWrong) {
  const at::Tensor zeros = at::zeros({1, 4});
  EXPECT_EQ(token_errors(zeros, zeros).item<float>(), 0);
  EXPECT_GT(token_errors(at::ones({1, 4}), zeros).item<float>(), 1e20);
}

TEST(TokenErrors, GradientsPassThroughTheOutput) {
  const at::Tensor x = with_massive_row(), output = (x + 1).set_requires_grad(true);
  weighted_error(output, x).backward();
  const at::Tensor expected = 2 * token_weights(x).expand_as(x) / static_cast<double>(x.numel());
  EXPECT_TRUE(at::allclose(output.grad(), expected, 1e-4));
}

}  // namespace
}  // namespace tessera
