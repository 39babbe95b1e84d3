// Every family on a tiny random checkpoint: both executors against Transformers, and quantization end to end.
// tests/golden/make_tiny_models.py made the checkpoints.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/model/context.h"
#include "tessera/model/test_backends.h"
#include "tessera/quant/block/streams.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/run/quantizer.h"
#include "tessera/quant_cli/simulation_check.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

constexpr double kTolerance = 1e-4;  // relative to the norm of the golden logits

class TinyModel : public testing::TestWithParam<const char*> {
 protected:
  ~TinyModel() override { fs::remove_all(out_); }

  std::span<const float> golden_logits() const { return golden_.tensors().at("logits").as<float>(); }

  /// ||logits - golden|| / ||golden||, rows first .. of the golden ones.
  double error_of(std::span<const float> logits, int64_t first = 0) const {
    const auto golden = golden_logits().subspan(static_cast<size_t>(first * vocab_), logits.size());
    double difference = 0, norm = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      difference += std::pow(double{logits[i]} - golden[i], 2);
      norm += std::pow(double{golden[i]}, 2);
    }
    return std::sqrt(difference / norm);
  }

  /// Empty, or the message of the Error.
  std::string quantize_with(const char* method, int bits) const {
    Reporter silent;
    const Ids reversed(ids_.rbegin(), ids_.rend());
    try {
      quantize({.model_dir = dir_,
                .output_dir = out_,
                .recipe = find_method(method).with_weight(bits, 0),
                .calibration = {.windows = {ids_, reversed}, .manifest = {}},
                .overwrite = true},
               silent);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  /// The integer engine's logits of the golden ids.
  std::vector<float> engine_logits(const fs::path& dir, Backend& backend) const {
    const auto model = Model::load(dir, backend);
    Context cache(*model, std::ssize(ids_), KvFormat::kF32);
    std::vector<float> all;
    cache.forward(ids_, [&](int64_t, std::span<const float> logits) {
      all.insert(all.end(), logits.begin(), logits.end());
    });
    return all;
  }

  const fs::path dir_ = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / GetParam();
  const fs::path out_ = fs::path(testing::TempDir()) / fmt::format("tiny_{}_{}", GetParam(), getpid());
  const SafetensorsFile golden_{dir_ / "golden.safetensors"};
  const Ids ids_ = [this] {
    const auto ids = golden_.tensors().at("ids").as<int32_t>();
    return Ids(ids.begin(), ids.end());
  }();
  const int64_t vocab_ = golden_.tensors().at("logits").shape[1];
};

TEST_P(TinyModel, EngineEqualsTransformers) {
  for (const TestBackend& which : {TestBackend{}, best_backend()}) {
    SCOPED_TRACE(which.name());
    const auto backend = which.make();
    EXPECT_LT(error_of(engine_logits(dir_, *backend)), kTolerance) << "whole sequence";

    const auto model = Model::load(dir_, *backend);
    Context cache(*model, std::ssize(ids_), KvFormat::kF32);
    const std::span<const int32_t> ids(ids_);
    constexpr size_t kPrompt = 25;
    EXPECT_LT(error_of(cache.forward(ids.first(kPrompt)), kPrompt - 1), kTolerance) << "prompt";
    for (size_t t = kPrompt; t < ids.size(); ++t) {
      EXPECT_LT(error_of(cache.forward(ids.subspan(t, 1)), static_cast<int64_t>(t)), kTolerance) << t;
    }
  }
}

TEST_P(TinyModel, CalibrationEqualsTransformers) {
  const Checkpoint checkpoint(dir_);
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir_), checkpoint);
  const auto lookup = [&](const std::string& name) { return checkpoint.at(name); };
  const auto load = [&](const std::string& name) {
    return checkpoint.contains(name) ? to_float_tensor(checkpoint.at(name), at::kCPU) : at::Tensor();
  };
  const std::vector<Ids> windows = {ids_, ids_};
  at::Tensor x = embed_windows(spec, lookup, windows, at::kCPU);
  for (int64_t layer = 0; layer < spec.n_layers; ++layer) {
    const Block block = load_block(checkpoint, spec, layer, at::kCPU);
    x = block_forward(spec, block, float_linears(block), x);
  }
  x = normalize(spec, x, load(spec.final_norm + ".weight"), load(spec.final_norm + ".bias"));
  const at::Tensor logits = at::matmul(x, load(spec.lm_head).t()).contiguous();
  for (int64_t window = 0; window < 2; ++window) {
    const at::Tensor part = logits[window].contiguous();
    EXPECT_LT(error_of({part.data_ptr<float>(), static_cast<size_t>(part.numel())}), kTolerance);
  }
}

TEST_P(TinyModel, QuantizesToIntegerLayers) {
  const auto backend = best_backend().make();
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir_));
  for (const char* method : {"rtn", "qqq", "qqq-rotation"}) {
    SCOPED_TRACE(method);
    const std::string refusal = quantize_with(method, 4);
    if (!spec.embedding_norm.empty() && method == std::string("qqq-rotation")) {
      EXPECT_NE(refusal.find("norm behind the embedding"), std::string::npos) << refusal;
      continue;
    }
    ASSERT_EQ(refusal, "");
    const SimulationCheck layers = check_simulation(out_, ids_, *backend);
    EXPECT_EQ(layers.kernels.layers, spec.n_layers * std::ssize(spec.linear_ids()));
    EXPECT_EQ(layers.first_differing, "");
    EXPECT_LT(error_of(engine_logits(out_, *backend)), 0.6);
  }
}

/// With 8 bits hardly anything is lost, so that a transform that changed the function would show.
TEST_P(TinyModel, TransformsKeepTheFunction) {
  const auto backend = best_backend().make();
  ASSERT_EQ(quantize_with("rtn", 8), "");
  const double rounded = error_of(engine_logits(out_, *backend));
  EXPECT_LT(rounded, 0.05);
  for (const char* method : {"qqq", "qqq-rotation"}) {
    if (!quantize_with(method, 8).empty()) continue;  // the refusal is tested above
    EXPECT_LT(error_of(engine_logits(out_, *backend)), std::max(2 * rounded, 0.02)) << method;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TinyModel,
                         testing::Values("opt", "mistral", "qwen2", "qwen3", "qwen3-mixed", "falcon-7b",
                                         "falcon-40b", "falcon-sequential", "bloom"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tessera
