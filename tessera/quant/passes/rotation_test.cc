// Rotated models compute the same logits.
#include "tessera/quant/passes/rotation.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"
#include "tessera/quant/block/hadamard.h"
#include "tessera/quant/block/test_models.h"

namespace tessera {
namespace {

class RotatedModel : public testing::TestWithParam<TestModelOptions> {};

TEST_P(RotatedModel, T2_LogitsStay) {
  TestModel model = make_test_model(GetParam());
  model.outer.lm_head = model.outer.embedding.clone();  // a tied model, untied before it is rotated
  const at::Tensor ids = test_ids(2, 24, model.spec), expected = test_logits(model, ids);
  const at::Tensor rotation = stream_rotation(model.spec, 0, true),
                   head_rotation = random_rotation(model.spec.head_dim, 0, true);
  rotate_outer(model.outer, rotation);
  for (Block& block : model.blocks) {
    const at::Tensor before = block.weight[model.spec.id(kQ)];
    rotate_block(model.spec, block, rotation);
    rotate_value_heads(model.spec, block, head_rotation);
    EXPECT_GT(relative_error(block.weight[model.spec.id(kQ)], before), 0.1);
  }
  EXPECT_LE(relative_error(test_logits(model, ids), expected), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Families, RotatedModel,
                         testing::Values(TestModelOptions{}, TestModelOptions{.kv_heads = 2, .biases = true},
                                         TestModelOptions{.kv_heads = 1},
                                         TestModelOptions{.kv_heads = 2, .head_norms = true},
                                         TestModelOptions{.layer_norm = true},
                                         TestModelOptions{.layer_norm = true, .parallel = true},
                                         TestModelOptions{.biases = true, .layer_norm = true}));

}  // namespace
}  // namespace tessera
