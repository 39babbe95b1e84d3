// Perplexity by fake quantization, against golden logits and against the float model.
#include "tessera/quant/run/fake_quant_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/quant/run/quantizer.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class WindowNll : public testing::Test {
 protected:
  void SetUp() override {
    const auto golden = nlohmann::json::parse(read_file(demo_ / "golden.json"));
    ids_ = golden["prompts"][0]["ids"].get<std::vector<int32_t>>();
  }

  void TearDown() override { fs::remove_all(out_); }

  /// Demo-llama with 8-bit weights, rounded to nearest.
  fs::path quantized() const {
    Reporter silent;
    quantize({.model_dir = demo_,
              .output_dir = out_,
              .recipe = find_method("rtn").with_weight(8, 0),
              .calibration = {.windows = {ids_}, .manifest = {}},
              .overwrite = true},
             silent);
    return out_;
  }

  const fs::path out_ = fs::path(testing::TempDir()) / fmt::format("window_nll_{}", getpid());
  const fs::path demo_ = fs::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";
  std::vector<int32_t> ids_;
};

TEST_F(WindowNll, OfTheFloatModelFollowsFromTheGoldenLogits) {
  const SafetensorsFile golden(demo_ / "golden.safetensors");
  const TensorView& logits = golden.tensors().at("prompt0.all_logits");
  const auto vocab = static_cast<size_t>(logits.shape[1]);
  double expected = 0;
  for (size_t t = 0; t + 1 < ids_.size(); ++t) {
    const auto row = logits.as<float>().subspan(t * vocab, vocab);
    double sum = 0;
    for (float logit : row) sum += std::exp(double{logit});
    expected += std::log(sum) - row[static_cast<size_t>(ids_[t + 1])];
  }
  expected /= static_cast<double>(ids_.size() - 1);
  const std::vector<std::vector<int32_t>> windows = {ids_, ids_};
  const std::vector<double> nll = window_nll(demo_, windows);
  ASSERT_EQ(nll.size(), 2u);
  EXPECT_NEAR(nll[0], expected, 1e-4);
  EXPECT_NEAR(nll[1], nll[0], 1e-5);
}

TEST_F(WindowNll, OfAQuantizedModelIsNearTheFloatOne) {
  const std::vector<std::vector<int32_t>> windows = {ids_};
  const double reference = window_nll(demo_, windows)[0], nll = window_nll(quantized(), windows)[0];
  EXPECT_NE(nll, reference);
  EXPECT_NEAR(nll, reference, 0.1);  // of ten predictions
}

TEST_F(WindowNll, RefusesWhatAnotherToolQuantized) {
  const fs::path dir = quantized();
  auto config = nlohmann::json::parse(read_file(dir / "config.json"));
  config["quantization_config"] = {{"quant_method", "qqq"}, {"wbits", 4}};
  write_file(dir / "config.json", config.dump());
  const std::vector<std::vector<int32_t>> windows = {ids_};
  try {
    window_nll(dir, windows);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("quantized by another tool"), std::string::npos) << error.what();
  }
}

TEST_F(WindowNll, ShowsEveryLinearWithItsInput) {
  const std::vector<std::vector<int32_t>> windows = {ids_};
  std::vector<std::string> names;
  window_nll(quantized(), windows, "cpu",
             [&](const std::string& name, const QuantizedLinear& linear, const at::Tensor& x) {
               names.push_back(name);
               EXPECT_EQ(x.size(-1), linear.k);
               EXPECT_EQ(x.numel(), linear.k * static_cast<int64_t>(ids_.size()));
             });
  EXPECT_EQ(names.size(), 6u * 7u);
  EXPECT_EQ(names.front(), "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(names.back(), "model.layers.5.mlp.down_proj");
}

}  // namespace
}  // namespace tessera
