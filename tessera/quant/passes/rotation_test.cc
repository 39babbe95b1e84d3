// Rotated models compute the same logits.
#include "tessera/quant/passes/rotation.h"

#include <gtest/gtest.h>

#include "tessera/base/test_error.h"
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

/// A stream that varies in three directions far more than in the others.
at::Tensor stream_with_directions(const at::Tensor& directions) {
  const at::Tensor loud = at::randn({4000, 3}) * at::tensor({30.0f, 20.0f, 10.0f});
  return at::matmul(loud, directions.t().to(at::kFloat)) + at::randn({4000, directions.size(0)});
}

TEST(PrincipalRotation, PutsTheMainDirectionsFirstAndMixesTheRest) {
  at::manual_seed(1);
  const at::Tensor directions = random_rotation(64, 7, false).narrow(1, 0, 3);
  const at::Tensor x = stream_with_directions(directions).to(at::kDouble);
  const at::Tensor q = principal_rotation(at::matmul(x.t(), x), 3, 0);
  EXPECT_TRUE(at::allclose(at::matmul(q.t(), q), at::eye(64, at::kDouble), 1e-10, 1e-10));
  // Column i is direction i, but for its sign.
  const at::Tensor aligned = at::matmul(directions.t(), q.narrow(1, 0, 3)).abs();
  EXPECT_GT(aligned.diagonal().min().item<double>(), 0.99);
  const at::Tensor spread = at::matmul(x, q).std(0, true, false);
  EXPECT_GT(spread[2].item<double>(), 5);
  EXPECT_LT(spread.narrow(0, 3, 61).max().item<double>(), 1.5);
  EXPECT_TRUE(at::equal(q, principal_rotation(at::matmul(x.t(), x), 3, 0)));
}

TEST(PrincipalRotation, LogitsStay) {
  TestModel model = make_test_model({.kv_heads = 2, .biases = true});
  const at::Tensor ids = test_ids(2, 24, model.spec), expected = test_logits(model, ids);
  const std::unique_ptr<Pass> pass = make_pass({{"pass", "rotate"}, {"matrix", "principal"}});
  ASSERT_TRUE(pass->surveys());
  at::Tensor x = at::embedding(model.outer.embedding, ids);
  for (const Block& block : model.blocks) {
    pass->survey_block(model.spec, x);
    x = block_forward(model.spec, block, float_linears(block), x);
  }
  at::Tensor stream = at::embedding(model.outer.embedding, ids);
  pass->run_on_outer(model.spec, model.outer);
  const at::Tensor rotated = at::embedding(model.outer.embedding, ids);
  EXPECT_GT(relative_error(rotated, stream), 0.1);
  EXPECT_NEAR(rotated.norm().item<double>(), stream.norm().item<double>(), 1e-3);
  Reporter reporter;
  stream = rotated;
  for (int64_t layer = 0; layer < model.spec.n_layers; ++layer) {
    Block& block = model.blocks[static_cast<size_t>(layer)];
    BlockContext context(model.spec, layer, PerLinear<LinearScheme>(model.spec.linears.size(), {{4, 32}, {}}),
                         block, reporter);
    context.x_float = context.x_quant = stream;
    pass->run_on_block(context);
    block = context.block;
    stream = block_forward(model.spec, block, float_linears(block), stream);
  }
  EXPECT_LE(relative_error(test_logits(model, ids), expected), 1e-4);
}

TEST(PrincipalRotation, RefusesLayerNorm) {
  const ModelSpec spec = test_spec({.layer_norm = true});
  const PerLinear<LinearScheme> schemes(spec.linears.size());
  const auto check = [&](const char* matrix) {
    make_pass({{"pass", "rotate"}, {"matrix", matrix}})->check({spec, schemes, {}});
  };
  EXPECT_NO_THROW(check("random"));
  EXPECT_NE(error_of([&] { check("principal"); }).find("--set rotate.matrix=random"), std::string::npos);
}

}  // namespace
}  // namespace tessera
