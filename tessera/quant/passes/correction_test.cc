// Error correction: gradients through rounding, what training starts from, and what it reaches ("QLLM").
#include "tessera/quant/passes/correction.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/straight_through.h"
#include "tessera/quant/block/test_models.h"
#include "tessera/quant/grid/weight_grid.h"
#include "tessera/quant/passes/reassembly.h"

namespace tessera {
namespace {

constexpr ActivationFormat kFormats[] = {
    {4, false, true}, {8, false, true}, {4, true, true}, {6, true, true}};

TEST(StraightThrough, ValuesAreThoseOfTheIntegerCodes) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({5, 7, 33}) * 3;
  for (const ActivationFormat& format : kFormats) {
    EXPECT_TRUE(at::equal(round_rows_straight_through(x, format), fake_quantize_rows(x, format)));
  }
}

TEST(StraightThrough, EveryFormatHasValuesAndGradients) {
  at::manual_seed(3);
  const float scale = 0.02f;
  const ActivationFormat fixed{8, true, false}, real{4, false, true, true}, none{16, true, true};
  for (const ActivationFormat& format : {fixed, real, none, kFormats[0]}) {
    at::Tensor x = (at::randn({5, 33}) * 2).set_requires_grad(true);
    const at::Tensor rounded = round_straight_through(x, format, scale);
    EXPECT_TRUE(at::allclose(rounded, fake_quantize_rows(x.detach(), format, scale), 1e-6, 1e-6));
    rounded.sum().backward();
    const at::Tensor clamped = x.detach().abs() > 127 * scale;
    if (format == fixed) {
      EXPECT_TRUE(clamped.any().item<bool>());
      EXPECT_TRUE(at::equal(x.grad(), clamped.logical_not().to(at::kFloat)));
    } else if (format == real || format == none) {
      EXPECT_TRUE((x.grad() == 1).all().item<bool>());
    }
  }
}

/// The same function made of elementary operations whose rounding steps are detached.
at::Tensor composed(const at::Tensor& x, const ActivationFormat& format) {
  const auto detached_round = [](const at::Tensor& t) { return t + (t.round() - t).detach(); };
  if (format.symmetric) {
    const at::Tensor scale = at::amax(x.abs(), {-1}, true) / ((1 << (format.bits - 1)) - 1);
    return detached_round(x / scale) * scale;
  }
  const int levels = (1 << format.bits) - 1;
  const at::Tensor lo = at::amin(x, {-1}, true).clamp_max(0), hi = at::amax(x, {-1}, true).clamp_min(0);
  const at::Tensor scale = (hi - lo) / levels, zero = (-lo / scale).round().detach();
  return ((detached_round(x / scale) + zero).clamp(0, levels) - zero) * scale;
}

TEST(StraightThrough, T19_GradientsEqualThoseOfElementarySteps) {
  at::manual_seed(2);
  for (const ActivationFormat& format : kFormats) {
    at::Tensor x = at::randn({6, 40});
    x[0].abs_();         // one sign only
    x[1].neg_().abs_();  // and again
    x[2].mul_(100);
    const at::Tensor weight = at::randn({6, 40});
    at::Tensor a = x.clone().set_requires_grad(true), b = x.clone().set_requires_grad(true);
    (round_rows_straight_through(a, format) * weight).sum().backward();
    (composed(b, format) * weight).sum().backward();
    EXPECT_LT(relative_error(a.grad(), b.grad()), 1e-4) << format.bits << format.symmetric;
  }
}

TEST(StraightThrough, EqualExtremesShareTheGradientAndZerosStayFinite) {
  at::Tensor x = at::tensor({2.0f, 2.0f, -1.0f, 0.3f}).view({1, 4}).set_requires_grad(true);
  (round_rows_straight_through(x, {4, false, true}) * at::tensor({0.0f, 0.0f, 0.0f, 1.0f})).sum().backward();
  EXPECT_EQ(x.grad()[0][0].item<float>(), x.grad()[0][1].item<float>());
  at::Tensor zeros = at::zeros({3, 8}).set_requires_grad(true);
  for (const ActivationFormat& format : kFormats) round_rows_straight_through(zeros, format).sum().backward();
  EXPECT_TRUE(at::isfinite(zeros.grad()).all().item<bool>());
}

/// Two blocks of a random model in 4 bits, with what the float model makes of random inputs.
struct Group {
  explicit Group(const TestModelOptions& options = {}) : model(make_test_model(options)) {
    at::manual_seed(3);
    x = at::randn({12, 16, model.spec.hidden_size});
    target = x;
    for (int64_t layer = 0; layer < 2; ++layer) {
      const Block& block = model.blocks[static_cast<size_t>(layer)];
      target = block_forward(model.spec, block, float_linears(block), target);
      const LinearScheme scheme{{4, 0, false}, {4, false, true}};
      blocks.emplace_back(model.spec, layer, PerLinear<LinearScheme>(model.spec.linears.size(), scheme),
                          block, reporter);
    }
    context.emplace(GroupContext{model.spec, blocks, x, target, reporter});
  }

  /// Mean square error of the rounded blocks.
  double loss() {
    at::Tensor out = x;
    for (BlockContext& block : blocks) {
      PerLinear<std::optional<QuantizedLinear>> quantized(model.spec.linears.size());
      for (LinearId id : model.spec.linear_ids()) {
        const at::Tensor& weight = block.block.weight[id];
        const WeightGrid grid = fit_grid(weight, block.schemes[id].weight, {.search = false});
        quantized[id] = make_quantized_linear(grid, round_to_grid(grid, weight), block.schemes[id].activation,
                                              block.block.bias[id]);
        block.block.map[id].attach(*quantized[id]);
      }
      out = block_forward(model.spec, block.block, fake_quant_linears(quantized, at::kCPU), out);
    }
    return at::mse_loss(out, target).item<double>();
  }

  TestModel model;
  at::Tensor x, target;
  Reporter reporter;
  std::vector<BlockContext> blocks;
  std::optional<GroupContext> context;
};

TEST(Correction, T18_StartsAtTheRoundedBlock) {
  for (const bool layer_norm : {false, true}) {
    Group group({.biases = layer_norm, .layer_norm = layer_norm});
    for (BlockContext& block : group.blocks) block.block.window = layer_norm ? 5 : 0;
    at::Generator generator = at::detail::createCPUGenerator(1);
    at::Tensor out = group.x;
    for (const BlockContext& block : group.blocks) {
      out = CorrectedBlock(block, {}, generator).forward(out);
    }
    EXPECT_NEAR(at::mse_loss(out, group.target).item<double>(), group.loss(), 1e-3 * group.loss());
  }
}

TEST(Correction, T22_HelpsTheRoundedBlocksAfterTheMerge) {
  for (const bool layer_norm : {false, true}) {
    Group group({.biases = layer_norm, .layer_norm = layer_norm});
    const double before = group.loss();
    const CorrectionResult result = correct_blocks(*group.context, {.epochs = 8, .learning_rate = 2e-3});
    EXPECT_EQ(result.steps, 96);
    EXPECT_LT(result.loss_after, 0.95 * result.loss_before);
    EXPECT_LT(group.loss(), before);
  }
}

TEST(Correction, T21_MergesWhatWasTrainedAndLeavesTheRestAlone) {
  Group group;
  const Block original = group.blocks[0].block;
  correct_blocks(*group.context, {.rank = 2, .epochs = 4, .learning_rate = 2e-3, .norms = false});
  const Block& merged = group.blocks[0].block;
  for (LinearId id : group.model.spec.linear_ids()) {
    const at::Tensor change = (merged.weight[id] - original.weight[id]).to(at::kDouble);
    const at::Tensor singular = at::linalg_svdvals(change);
    EXPECT_LT(singular[2].item<double>(), 1e-3 * singular[1].item<double>()) << "more than rank 2";
    EXPECT_FALSE(merged.weight[id].requires_grad());
  }
  EXPECT_TRUE(at::equal(merged.gain[kMlpNorm], original.gain[kMlpNorm]));
}

TEST(Correction, T23_IsTheSameForASeed) {
  Group first, second, other;
  correct_blocks(*first.context, {.epochs = 1});
  correct_blocks(*second.context, {.epochs = 1});
  correct_blocks(*other.context, {.epochs = 1, .seed = 5});
  const auto weight = [](const Group& group) {
    return group.blocks[1].block.weight[group.model.spec.id(kUp)];
  };
  EXPECT_TRUE(at::equal(weight(first), weight(second)));
  EXPECT_FALSE(at::equal(weight(first), weight(other)));
}

TEST(Correction, T20_CopiesOfAChannelStayAlike) {
  Group group;
  std::vector<int64_t> parts(64, 1);
  parts[9] = 3;
  const ChannelMap map = reassemble({}, parts, {.assemble = false, .alignment = 1});
  Block& block = group.blocks[0].block;
  const LinearId up = group.model.spec.id(kUp);
  for (LinearId id : {group.model.spec.id(kGate), up}) {
    block.weight[id] = map.fold(block.weight[id]);
    block.map[id] = map;
  }
  correct_blocks(*group.context, {.epochs = 2});
  for (const int64_t copy : {10, 11}) {
    EXPECT_TRUE(at::allclose(block.weight[up].select(1, copy), block.weight[up].select(1, 9), 1e-5, 1e-6));
  }
}

TEST(Correction, LeavesBlocksAloneThatItWouldHarm) {
  Group group;
  const at::Tensor weight = group.blocks[0].block.weight.front();
  const CorrectionResult result = correct_blocks(*group.context, {.epochs = 1, .learning_rate = 1.0});
  EXPECT_GE(result.loss_after, result.loss_before);
  EXPECT_TRUE(group.blocks[0].block.weight.front().is_same(weight));
}

TEST(Correction, OutlierColumnsStayInFloat) {
  Group group;
  for (BlockContext& block : group.blocks) {
    const OutlierSplit split = split_outliers(at::rand({64}), 16);
    for (LinearRole role : {kQ, kK, kV}) block.split[block.spec.id(role)] = split;
  }
  at::Generator generator = at::detail::createCPUGenerator(1);
  const BlockContext& block = group.blocks[0];
  const at::Tensor with = CorrectedBlock(block, {}, generator).forward(group.x);
  const at::Tensor exact = block_forward(block.spec, block.block, float_linears(block.block), group.x);
  EXPECT_TRUE(at::isfinite(with).all().item<bool>());
  EXPECT_LT(relative_error(with, exact), 0.5);
}

}  // namespace
}  // namespace tessera
