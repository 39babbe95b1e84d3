// Tests of an lm_head in 8 bits.
#include "tessera/quant/run/lm_head.h"

#include <gtest/gtest.h>

#include "tessera/format/reference.h"
#include "tessera/quant/block/tensor_bridge.h"

namespace tessera {
namespace {

class LmHeadTest : public testing::Test {
 protected:
  LmHeadTest() { at::manual_seed(1); }

  at::Tensor weight_ = at::randn({5000, 48});
  at::Tensor inputs_ = at::randn({64, 48});
  nlohmann::json report_;
};

TEST_F(LmHeadTest, ChannelsThatStandOutAreShared) {
  inputs_.select(1, 7) *= 30;
  const at::Tensor scales = balance_lm_head(view_of(weight_), inputs_, report_);
  EXPECT_GT(scales[7].item<double>(), 4 * scales[8].item<double>());
  EXPECT_LT(report_["error_balanced"].get<double>(), 0.5 * report_["error_plain"].get<double>());
}

TEST_F(LmHeadTest, TokensThatWereNotSeenJudge) {
  inputs_.narrow(0, 0, 32).select(1, 7) *= 1000;  // in the first half alone
  const at::Tensor scales = balance_lm_head(view_of(weight_), inputs_, report_);
  EXPECT_GT(report_["error_balanced"], report_["error_plain"]);
  EXPECT_TRUE(at::equal(scales, at::ones({48})));
}

/// Each piece of the vocabulary has its own rows and bias; half a step is the most that a weight moves.
TEST_F(LmHeadTest, RoundsPieceByPiece) {
  const at::Tensor bias = at::randn({5000}), scales = at::rand({48}) + 0.5;
  const QuantizedLinear head = round_lm_head(view_of(weight_), bias, scales);
  ASSERT_EQ(head.n, 5000);
  const std::vector<float> found = input_weights(head);
  const at::Tensor difference =
      at::from_blob(const_cast<float*>(found.data()), {5000, 48}) - weight_ * scales;
  const at::Tensor steps = to_float_tensor(head.scale.view(), at::kCPU).unsqueeze(1);
  EXPECT_LE((difference.abs() / steps).max().item<double>(), 0.51);
  EXPECT_TRUE(at::equal(to_float_tensor(head.bias.view(), at::kCPU), bias));
}

}  // namespace
}  // namespace tessera
