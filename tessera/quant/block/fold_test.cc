// Folding scales keeps every family's logits.
#include "tessera/quant/block/fold.h"

#include <gtest/gtest.h>

#include "tessera/quant/block/test_models.h"

namespace tessera {
namespace {

class Fold : public testing::TestWithParam<TestModelOptions> {};

TEST_P(Fold, T1_ScalesLeaveTheLogits) {
  TestModel model = make_test_model(GetParam());
  const at::Tensor ids = test_ids(2, 24, model.spec), expected = test_logits(model, ids);
  for (Block& block : model.blocks) {
    for (const Site& site : model.spec.sites) {
      ASSERT_TRUE(can_fold_scale(model.spec, site));
      const at::Tensor scale = at::rand({model.spec.linears[site.readers.front()].k}) * 99 + 1;
      fold_scale(model.spec, block, site, share_over_query_heads(model.spec, site, scale));
    }
  }
  EXPECT_LE(relative_error(test_logits(model, ids), expected), 1e-5);
}

TEST_P(Fold, NormGainsLeaveTheLogits) {
  TestModel model = make_test_model(GetParam());
  const at::Tensor ids = test_ids(2, 24, model.spec), expected = test_logits(model, ids);
  for (Block& block : model.blocks) {
    for (const Site& site : model.spec.sites) {
      if (site.producer != Site::Producer::kNorm) continue;
      fold_norm_gain(model.spec, block, site.norm);
      EXPECT_TRUE(at::equal(block.gain[site.norm], at::ones_like(block.gain[site.norm])));
    }
  }
  EXPECT_LE(relative_error(test_logits(model, ids), expected), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Families, Fold,
                         testing::Values(TestModelOptions{}, TestModelOptions{.kv_heads = 2},
                                         TestModelOptions{.kv_heads = 1, .biases = true},
                                         TestModelOptions{.kv_heads = 2, .head_norms = true},
                                         TestModelOptions{.kv_heads = 1, .parallel = true},
                                         TestModelOptions{.layer_norm = true, .parallel = true},
                                         TestModelOptions{.biases = true, .layer_norm = true}));

TEST(Fold, KnowsWhereNonlinearitiesForbidIt) {
  ModelSpec spec = test_spec({.layer_norm = true});
  EXPECT_TRUE(can_fold_scale(spec, spec.sites[3]));
  spec.activation = Activation::kGelu;
  EXPECT_FALSE(can_fold_scale(spec, spec.sites[3]));
  EXPECT_TRUE(can_fold_scale(spec, spec.sites[2]));
}

TEST(Fold, SharedScaleIsTheMaximumOverQueryHeads) {
  const ModelSpec spec = test_spec({.kv_heads = 2});
  const at::Tensor values = at::arange(64, at::kFloat);
  const at::Tensor shared = share_over_query_heads(spec, spec.sites[1], values);
  // Heads 0 and 1 read value head 0: channel d takes the value of head 1.
  EXPECT_EQ(shared[3].item<float>(), 19);
  EXPECT_EQ(shared[19].item<float>(), 19);
  EXPECT_EQ(shared[35].item<float>(), 51);
  EXPECT_TRUE(at::equal(share_over_query_heads(spec, spec.sites[0], values), values));
}

}  // namespace
}  // namespace tessera
