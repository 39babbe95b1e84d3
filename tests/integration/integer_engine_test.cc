// What the quantizer simulates is what the integer kernels compute: accumulators of every layer bit for bit,
// perplexity to rounding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "tessera/engine/self_text.h"
#include "tessera/eval/kernel_check.h"
#include "tessera/eval/perplexity.h"
#include "tessera/kernels/backends.h"
#include "tessera/quant/run/fake_quant_model.h"
#include "tessera/quant/run/quantizer.h"
#include "tessera/quant_cli/simulation_check.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

struct Case {
  const char* method;
  int bits = 0;  ///< 0: the recipe's formats
  int64_t group_size = 0;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  std::string name = fmt::format("{}_w{}_g{}", info.param.method, info.param.bits, info.param.group_size);
  std::ranges::replace_if(
      name, [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

const fs::path kModel = fs::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";
constexpr int64_t kWindow = 96;

/// Text that the float model writes itself, so that nothing from outside is needed.
const std::vector<Ids>& sampled_windows() {
  static const std::vector<Ids> windows = [] {
    const auto backend = make_backend("cpu");
    const auto model = Model::load(kModel, *backend);
    Reporter silent;
    const Ids ids = sample_text(*model, /*bos=*/1, {.windows = 24, .window = kWindow, .seed = 1}, silent);
    std::vector<Ids> cut;
    for (auto at = ids.begin(); at != ids.end(); at += kWindow) cut.emplace_back(at, at + kWindow);
    return cut;
  }();
  return windows;
}

/// Short searches and training.
Recipe recipe_of(const Case& c) {
  Recipe recipe = method_recipe(c.method);
  for (nlohmann::json& step : recipe.passes) {
    if (step["pass"] == "reassemble") step.update({{"tokens", kWindow}, {"candidates", 3}});
    if (step["pass"] == "correct") step["epochs"] = 1;
    if (step["pass"] == "tune" || step["pass"] == "distill") step["steps"] = 10;
  }
  return c.bits == 0 ? recipe : recipe.with_weight(c.bits, c.group_size);
}

class IntegerEngine : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    out_ = fs::path(testing::TempDir()) / ("integer_engine_" + name_of({GetParam(), 0}));
    Reporter silent;
    quantize({.model_dir = kModel,
              .output_dir = out_,
              .recipe = recipe_of(GetParam()),
              .calibration = {.windows = {windows_.begin(), windows_.begin() + 4}, .manifest = {}},
              .overwrite = true},
             silent);
  }
  void TearDown() override { fs::remove_all(out_); }

  void expect_equal_perplexity() const;

  fs::path out_;
  const std::vector<Ids>& windows_ = sampled_windows();
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
};

/// Float operations between the layers round differently in the two programs, and a code that flips changes
/// all later ones, so a window's loss differs by some tenths of a percent in either direction. What must not
/// be there is a difference beyond the spread of the windows.
void IntegerEngine::expect_equal_perplexity() const {
  const auto model = Model::load(out_, *backend_);
  Windows windows{.length = kWindow};
  for (const Ids& window : windows_) windows.ids.insert(windows.ids.end(), window.begin(), window.end());
  Reporter silent;
  const std::vector<double> engine = measure_perplexity(*model, windows, silent).window_nll,
                            simulated = window_nll(out_, windows_);
  const auto n = static_cast<double>(engine.size());
  double sum = 0, squares = 0;
  for (size_t i = 0; i < engine.size(); ++i) {
    const double difference = engine[i] - simulated[i];
    sum += difference;
    squares += difference * difference;
  }
  const double mean = sum / n, error = std::sqrt((squares / n - mean * mean) / (n - 1));
  // A code that flips moves its input by a step, which 4 bits make 16 times as long as 8 do.
  const int bits = recipe_of(GetParam()).scheme.activation.bits;
  EXPECT_LT(error, 2.5e-3 * (1 << (8 - bits)));
  EXPECT_LT(std::fabs(mean), 3.5 * error);
}

TEST_P(IntegerEngine, ComputesWhatTheQuantizerSimulates) {
  const SimulationCheck layers = check_simulation(out_, windows_[0], *backend_);
  EXPECT_EQ(layers.kernels.layers, 6 * 7);
  EXPECT_EQ(layers.first_differing, "");
  expect_equal_perplexity();
  Reporter silent;
  const KernelCheck kernels = check_kernels(out_, *backend_, silent);
  EXPECT_EQ(kernels.layers, 6 * 7 + (recipe_of(GetParam()).lm_head_w8a8 ? 1 : 0));
  EXPECT_EQ(kernels.first_off, "");
}

INSTANTIATE_TEST_SUITE_P(Methods, IntegerEngine,
                         testing::Values(Case{"rtn+lm_head=w8a8", 8, 0}, Case{"rtn", 4, 32},
                                         Case{"qqq", 4, 0}, Case{"qqq", 4, 128},
                                         Case{"qqq-rotation+lm_head=w8a8", 4, 64}, Case{"dgq", 4, 128},
                                         Case{"dgq-static", 4, 32}, Case{"quik+lm_head=w8a8"},
                                         Case{"qllm-w4a4"}, Case{"qllm-w6a6"}, Case{"dgq-gptq"}, Case{"awq"},
                                         Case{"gptq"}, Case{"smoothquant", 4, 128}, Case{"mix-rotation-dgq"},
                                         Case{"mix-quik-w4a8"}, Case{"mix-qqq-dgq-qllm"}, Case{"best-w4a8"},
                                         Case{"best-w4a4"}, Case{"qqq+distill=on"}),
                         name_of);

}  // namespace
}  // namespace tessera
