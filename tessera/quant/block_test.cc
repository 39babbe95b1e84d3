// The float block against golden hidden states, and its parts against direct formulas.
#include "tessera/quant/block.h"

#include <gtest/gtest.h>

#include "tessera/base/test_paths.h"

namespace tessera {
namespace {

at::Tensor to_torch(const TensorView& view) {
  at::Tensor out = at::empty(view.shape);
  copy_to_float(view, {out.data_ptr<float>(), static_cast<size_t>(out.numel())});
  return out;
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

TEST(Block, ReproducesGoldenHiddenStates) {
  const auto dir = shared_dir() / "models" / "demo-llama";
  TESSERA_REQUIRE_FILE(dir / "golden.safetensors");
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir));
  const Checkpoint checkpoint(dir);
  const SafetensorsFile golden(dir / "golden.safetensors");
  const auto hidden = [&](int64_t i) {
    return to_torch(golden.tensors().at("prompt0.hidden." + std::to_string(i))).unsqueeze(0);
  };
  at::Tensor x = hidden(0);
  for (int64_t layer = 0; layer + 1 < spec.n_layers; ++layer) {
    const Block block = load_block(checkpoint, spec, layer, at::kCPU);
    x = block_forward(spec, block, float_linears(block), x);
    EXPECT_LT(relative_difference(x, hidden(layer + 1)), 1e-5) << "layer " << layer;
  }
}

}  // namespace
}  // namespace tessera
