// The float path against Transformers: hidden states, logits and greedy continuations stored beside the
// models.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tessera/base/atomic_output.h"
#include "tessera/base/test_paths.h"
#include "tessera/model/context.h"
#include "tessera/model/test_backends.h"

namespace tessera {
namespace {

constexpr double kTolerance = 1e-3;  // relative to the norm of the golden tensor

std::filesystem::path bundled(const char* name) {
  return std::filesystem::path(TESSERA_SOURCE_DIR) / "models" / name;
}

/// ||a - b|| / ||b||.
double relative_error(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(double{a[i]} - b[i], 2);
    norm += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

int32_t argmax(std::span<const float> x) {
  return static_cast<int32_t>(std::max_element(x.begin(), x.end()) - x.begin());
}

struct Case {
  const char* name;
  std::filesystem::path dir;
  TestBackend backend;
};

class ModelGolden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    TESSERA_REQUIRE_FILE(GetParam().dir);
    golden_ = nlohmann::json::parse(read_file(GetParam().dir / "golden.json"));
    tensors_ = std::make_unique<SafetensorsFile>(GetParam().dir / "golden.safetensors");
    model_ = Model::load(GetParam().dir, *backend_);
  }

  std::vector<int32_t> prompt(int i) const {
    return golden_["prompts"][i]["ids"].get<std::vector<int32_t>>();
  }
  std::span<const float> tensor(const std::string& name) const {
    return tensors_->tensors().at(name).as<float>();
  }
  Context float_context() { return Context(*model_, model_->spec().max_positions, KvFormat::kF32); }

  nlohmann::json golden_;
  std::unique_ptr<SafetensorsFile> tensors_;
  std::unique_ptr<Backend> backend_ = GetParam().backend.make();
  std::unique_ptr<Model> model_;
};

TEST_P(ModelGolden, HiddenStatesOfEveryLayer) {
  int64_t seen = 0;
  model_->observe([&](int64_t layer, std::span<const float> hidden) {
    EXPECT_EQ(layer, seen++);
    if (layer == model_->spec().n_layers) return;  // golden has the final norm's output here; logits judge it
    EXPECT_LT(relative_error(hidden, tensor(fmt::format("prompt0.hidden.{}", layer))), kTolerance) << layer;
  });
  Context context = float_context();
  context.forward(prompt(0));
  EXPECT_EQ(seen, model_->spec().n_layers + 1);
}

TEST_P(ModelGolden, LogitsOfEveryPosition) {
  Context context = float_context();
  std::vector<float> all;
  context.forward(prompt(0), [&](int64_t first, std::span<const float> logits) {
    EXPECT_EQ(first * model_->spec().vocab_size, static_cast<int64_t>(all.size()));
    all.insert(all.end(), logits.begin(), logits.end());
  });
  EXPECT_LT(relative_error(all, tensor("prompt0.all_logits")), kTolerance);
}

TEST_P(ModelGolden, LogitsBehindEachPrompt) {
  for (int i = 0; i < 3; ++i) {
    Context context = float_context();
    const auto logits = context.forward(prompt(i));
    EXPECT_LT(relative_error(logits, tensor(fmt::format("prompt{}.logits", i))), kTolerance) << i;
  }
}

TEST_P(ModelGolden, GreedyContinuations) {
  for (int i = 0; i < 3; ++i) {
    Context context(*model_, model_->spec().max_positions);  // binary16, as in use
    std::vector<int32_t> ids;
    int32_t next = argmax(context.forward(prompt(i)));
    for (int step = 0; step < 32; ++step) {
      ids.push_back(next);
      next = argmax(context.forward({&next, 1}));
    }
    EXPECT_EQ(ids, golden_["prompts"][i]["greedy_ids"].get<std::vector<int32_t>>()) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ModelGolden,
                         testing::Values(Case{"demo_llama_reference", bundled("demo-llama"), {}},
                                         Case{"demo_llama", bundled("demo-llama"), best_backend()},
                                         Case{"lab_llama", shared_dir() / "models/lab-llama", best_backend()},
                                         Case{"lab_opt", shared_dir() / "models/lab-opt", best_backend()}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace tessera
