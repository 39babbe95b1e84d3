// Perplexity, window by window, against Transformers.
#include "tessera/eval/perplexity.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "tessera/base/atomic_output.h"
#include "tessera/base/test_paths.h"
#include "tessera/kernels/backends.h"
#include "tessera/model/context.h"
#include "tessera/model/test_llama.h"
#include "tessera/text/tokenizer.h"

namespace tessera {
namespace {

/// Progress reports, counted.
class CountingReporter : public Reporter {
 public:
  void progress(std::string_view, int64_t done, int64_t total) override {
    EXPECT_EQ(done, ++reports);
    EXPECT_GE(total, done);
  }
  int64_t reports = 0;
};

struct Case {
  const char *model, *text;  ///< the key of golden.json; the file is data/TEXT
  const char* file;
};

class PerplexityGolden : public testing::TestWithParam<Case> {};

TEST_P(PerplexityGolden, FirstWindows) {
  const auto dir = shared_dir() / "models" / GetParam().model;
  TESSERA_REQUIRE_FILE(dir);
  constexpr size_t kWindows = 6;
  const auto golden =
      nlohmann::json::parse(read_file(dir / "golden.json"))["perplexity"][GetParam().text]["window_mean_nll"]
          .get<std::vector<double>>();
  const auto backend = make_backend("cpu");
  const auto model = Model::load(dir, *backend);
  const auto tokenizer = Tokenizer::load(dir);
  // Tokens hold at least one byte; the beginning is enough and tokenizes alike.
  const std::string text = read_file(shared_dir() / "data" / GetParam().file).substr(0, 60000);
  const auto ids = tokenizer->encode(text, /*add_special_tokens=*/true);
  const Windows windows = cut_windows(ids, {.max_windows = kWindows}, model->spec(), tokenizer->bos_id());
  CountingReporter reporter;
  const Perplexity result = measure_perplexity(*model, windows, reporter);
  ASSERT_EQ(result.window_nll.size(), kWindows);
  for (size_t i = 0; i < kWindows; ++i) EXPECT_NEAR(result.window_nll[i], golden[i], 1e-3) << "window " << i;
  EXPECT_EQ(reporter.reports, static_cast<int64_t>(kWindows));
}

INSTANTIATE_TEST_SUITE_P(Models, PerplexityGolden,
                         testing::Values(Case{"demo-llama", "heldout", "heldout.txt"},
                                         Case{"demo-llama", "wikitext-2-test", "wikitext-2/test.txt"},
                                         Case{"lab-llama", "heldout", "heldout.txt"},
                                         Case{"lab-llama", "wikitext-2-test", "wikitext-2/test.txt"},
                                         Case{"lab-opt", "heldout", "heldout.txt"},
                                         Case{"lab-opt", "wikitext-2-test", "wikitext-2/test.txt"}));

/// A model that others trained: SmolLM2-135M-Instruct in float16, the Hugging Face folder
/// $TESSERA_SMOLLM2/SmolLM2-135M.
TEST(PerplexityOfSmolLm2, IsThatOfTransformers) {
  const char* models = std::getenv("TESSERA_SMOLLM2");
  if (!models) GTEST_SKIP() << "needs $TESSERA_SMOLLM2, a folder with SmolLM2-135M";
  const auto dir = std::filesystem::path(models) / "SmolLM2-135M",
             golden = shared_dir() / "models" / "smollm2-golden.json",
             text = shared_dir() / "data" / "wikitext-2" / "test.txt";
  for (const auto& path : {dir, golden, text}) TESSERA_REQUIRE_FILE(path);
  const double expected = read_json(golden)["perplexity"]["first_10_windows"];
  const auto backend = make_backend("cpu");
  const auto model = Model::load(dir, *backend);
  const auto ids =
      Tokenizer::load(dir)->encode(read_file(text).substr(0, 60000), /*add_special_tokens=*/true);
  const Windows windows = cut_windows(ids, {.window = 1024, .max_windows = 10}, model->spec(), {});
  Reporter silent;
  const Perplexity result = measure_perplexity(*model, windows, silent);
  ASSERT_EQ(result.window_nll.size(), 10u);
  EXPECT_NEAR(result.value() / expected, 1, 1e-4) << result.value();
}

class PerplexityTest : public testing::Test {
 protected:
  ~PerplexityTest() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_ =
      std::filesystem::temp_directory_path() / fmt::format("perplexity_test_{}", getpid());
  std::unique_ptr<Backend> backend_ = make_backend("reference");
  Reporter silent_;
};

TEST_F(PerplexityTest, BothProtocolsFollowTheirDefinition) {
  TestLlama llama;
  std::vector<int32_t> ids;
  for (int i = 0; i < 30; ++i) ids.push_back(llama.integer(0, 49));
  llama.write(dir_);
  const auto model = Model::load(dir_, *backend_);
  for (Protocol protocol : {Protocol::kGptq, Protocol::kLlamaCpp}) {
    const Windows windows = cut_windows(ids, {.protocol = protocol, .window = 10}, model->spec(), 7);
    const size_t first = protocol == Protocol::kGptq ? 1 : 6;
    std::vector<double> expected;
    for (int64_t w = 0; w < 3; ++w) {
      const auto logits = llama.logits(windows[w]);
      double sum = 0;
      for (size_t i = first; i < 10; ++i) {
        double total = 0;
        for (double v : logits[i - 1]) total += std::exp(v);
        sum += std::log(total) - logits[i - 1][static_cast<size_t>(windows[w][i])];
      }
      expected.push_back(sum / static_cast<double>(10 - first));
    }
    const Perplexity result = measure_perplexity(*model, windows, silent_);
    for (size_t w = 0; w < 3; ++w) EXPECT_NEAR(result.window_nll[w], expected[w], 1e-3);
    EXPECT_EQ(result.predictions, static_cast<int64_t>(3 * (10 - first)));
    EXPECT_DOUBLE_EQ(result.value(), std::exp(result.mean_nll));
    EXPECT_GT(result.standard_error, 0);
  }
}

TEST_F(PerplexityTest, DamagedWeightsAreAnError) {
  TestLlama llama;
  llama.float_tensors["model.layers.1.mlp.up_proj"].as<float>()[5] = std::nanf("");
  llama.write(dir_);
  const auto model = Model::load(dir_, *backend_);
  const Windows windows = cut_windows(std::vector<int32_t>(20, 3), {.window = 10}, model->spec(), {});
  EXPECT_THROW(measure_perplexity(*model, windows, silent_), Error);
}

}  // namespace
}  // namespace tessera
