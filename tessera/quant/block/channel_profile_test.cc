// Channel profiles: one value a band, and an outlier channel that shows where it is.
#include "tessera/quant/block/channel_profile.h"

#include <gtest/gtest.h>

#include "tessera/quant/block/test_models.h"

namespace tessera {
namespace {

at::Tensor all(LinearId, const at::Tensor& channel_absmax) {
  return channel_absmax;
}

TEST(ChannelProfile, ShowsTheScaledChannelOfEverySite) {
  TestModel model = make_test_model({});
  at::manual_seed(3);
  const at::Tensor x = at::randn({2, 7, model.spec.hidden_size});
  const auto before = channel_profile(model.spec, model.blocks[0], x, all);
  ASSERT_EQ(before.size(), 4u);
  EXPECT_EQ(before["qkv"].size(), 64u);
  EXPECT_EQ(before["down"].size(), 96u);

  model.blocks[0].gain[kAttentionNorm][11] *= 100;
  const auto after = channel_profile(model.spec, model.blocks[0], x, all);
  for (size_t channel = 0; channel < 64; ++channel) {
    const double factor = after["qkv"][channel].get<double>() / before["qkv"][channel].get<double>();
    EXPECT_NEAR(factor, channel == 11 ? 100 : 1, channel == 11 ? 0.2 : 1e-9);
  }
}

TEST(ChannelProfile, KeepsTheLargestOfABand) {
  ModelSpec spec = test_spec({});
  spec.linear(kUp).n = spec.linear(kGate).n = spec.linear(kDown).k = 700;
  Block block = make_test_model({}).blocks[0];
  for (LinearRole role : {kUp, kGate, kDown}) {
    const LinearSpec& linear = spec.linear(role);
    block.weight[spec.id(role)] = at::ones({linear.n, linear.k});
  }
  block.weight[spec.id(kUp)][699] *= 50;
  const auto down = channel_profile(spec, block, at::ones({1, 3, 64}), all)["down"];
  ASSERT_EQ(down.size(), 256u);
  EXPECT_NEAR(down[255].get<double>() / down[0].get<double>(), 50, 0.1);
}

}  // namespace
}  // namespace tessera
