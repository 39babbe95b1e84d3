// Passes on blocks of a trained model.
#include <gtest/gtest.h>

#include <optional>

#include "tessera/base/test_paths.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

/// The demonstration model and random ids in it.
class RealBlocks : public testing::Test {
 protected:
  void SetUp() override {
    const auto dir = shared_dir() / "models" / "demo-llama";
    TESSERA_REQUIRE_FILE(dir / "golden.safetensors");
    spec_ = make_model_spec(ModelConfig::load(dir));
    checkpoint_.emplace(dir);
  }

  /// Embeddings [windows, 128, hidden].
  at::Tensor input(int64_t windows) const {
    at::manual_seed(4);
    const at::Tensor ids = at::randint(spec_.vocab_size, {windows, 128}, at::kLong);
    return at::embedding(to_float_tensor(checkpoint_->at(spec_.embedding), at::kCPU), ids);
  }

  /// The block with inputs x, all linears to become `scheme`.
  BlockContext block(int64_t layer, const LinearScheme& scheme, const at::Tensor& x) {
    BlockContext context(spec_, layer, PerLinear<LinearScheme>(spec_.linears.size(), scheme),
                         load_block(*checkpoint_, spec_, layer, at::kCPU), reporter_);
    context.x_float = context.x_quant = x;
    return context;
  }

  ModelSpec spec_;
  std::optional<Checkpoint> checkpoint_;
  Reporter reporter_;
};

/// "QQQ" on a real block: GPTQ's output error is below rounding's at every linear.
TEST_F(RealBlocks, T6_GptqBeatsRoundingOnEveryLinear) {
  at::Tensor x = input(8);
  for (int64_t layer = 0; layer < 2; ++layer) {
    BlockContext context = block(layer, {{4, 128}, {}}, x);
    make_pass({{"pass", "gptq"}})->run_on_block(context);
    for (LinearId id : spec_.linear_ids()) {
      const auto& report = context.report["linears"][spec_.linears[id].name]["gptq"];
      EXPECT_LT(report["error"].get<double>(), report["error_rtn"].get<double>())
          << layer << spec_.linears[id].name;
    }
    x = block_forward(spec_, context.block, float_linears(context.block), x);
  }
}

/// "DGQ" on real blocks: integer group scales cost little against float ones, deriving them without the
/// search costs more.
TEST_F(RealBlocks, D5_IntegerScalesComeNearFloatScales) {
  const at::Tensor x = input(4);
  const auto errors = [&](const nlohmann::json& options) {
    BlockContext context = block(0, {{4, 128, false}, {16, true, true}}, x);
    nlohmann::json step{{"pass", "rtn"}, {"clip", "output"}};
    step.update(options);
    make_pass(step)->run_on_block(context);
    std::vector<float> squares;
    for (LinearId id : spec_.linear_ids()) {
      const double error = context.report["linears"][spec_.linears[id].name]["rtn"]["error"];
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
