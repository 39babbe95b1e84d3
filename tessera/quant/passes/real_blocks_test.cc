// Passes on blocks of a trained model.
#include <gtest/gtest.h>

#include "tessera/base/test_paths.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

/// "QQQ" on a real block: GPTQ's output error is below rounding's at every linear.
TEST(GptqPass, T6_BeatsRoundingOnEveryLinearOfARealBlock) {
  const auto dir = shared_dir() / "models" / "demo-llama";
  TESSERA_REQUIRE_FILE(dir / "golden.safetensors");
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir));
  const Checkpoint checkpoint(dir);
  at::manual_seed(4);
  const at::Tensor ids = at::randint(spec.vocab_size, {8, 128}, at::kLong);
  at::Tensor x = at::embedding(to_float_tensor(checkpoint.at(spec.embedding), at::kCPU), ids);
  Reporter reporter;
  for (int64_t layer = 0; layer < 2; ++layer) {
    BlockContext context(spec, layer, PerLinear<LinearScheme>(spec.linears.size(), {{4, 128}, {}}),
                         load_block(checkpoint, spec, layer, at::kCPU), reporter);
    context.x_float = context.x_quant = x;
    make_pass({{"pass", "gptq"}})->run_on_block(context);
    for (LinearId id : spec.linear_ids()) {
      const auto& report = context.report["linears"][spec.linears[id].name]["gptq"];
      EXPECT_LT(report["error"].get<double>(), report["error_rtn"].get<double>())
          << layer << spec.linears[id].name;
    }
    x = block_forward(spec, context.block, float_linears(context.block), x);
  }
}

/// "DGQ" on real blocks: integer group scales cost little against float ones, deriving them without the
/// search costs more.
TEST(RtnPass, D5_IntegerScalesComeNearFloatScalesOnRealBlocks) {
  const auto dir = shared_dir() / "models" / "demo-llama";
  TESSERA_REQUIRE_FILE(dir / "golden.safetensors");
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir));
  const Checkpoint checkpoint(dir);
  at::manual_seed(4);
  const at::Tensor ids = at::randint(spec.vocab_size, {4, 128}, at::kLong);
  const at::Tensor x = at::embedding(to_float_tensor(checkpoint.at(spec.embedding), at::kCPU), ids);
  Reporter reporter;
  const auto errors = [&](const nlohmann::json& options) {
    const LinearScheme scheme{{4, 128, false}, {16, true, true}};
    BlockContext context(spec, 0, PerLinear<LinearScheme>(spec.linears.size(), scheme),
                         load_block(checkpoint, spec, 0, at::kCPU), reporter);
    context.x_float = context.x_quant = x;
    nlohmann::json step{{"pass", "rtn"}, {"clip", "output"}};
    step.update(options);
    make_pass(step)->run_on_block(context);
    std::vector<float> squares;
    for (LinearId id : spec.linear_ids()) {
      const double error = context.report["linears"][spec.linears[id].name]["rtn"]["error"];
      squares.push_back(static_cast<float>(error * error));
    }
    return at::tensor(at::ArrayRef<float>(squares)).clone();
  };
  const at::Tensor floats = errors({{"scales", "float"}}), searched = errors({{"search", true}}) / floats,
                   rounded = errors({{"search", false}}) / floats;
  EXPECT_LE(searched.median().item<float>(), 1.03) << searched;
  EXPECT_GT(rounded.median().item<float>(), searched.median().item<float>()) << rounded;
}

}  // namespace
}  // namespace tessera
