// A quantized key-value cache in the engine and in the quantizer's simulation.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "tessera/engine/self_text.h"
#include "tessera/eval/perplexity.h"
#include "tessera/kernels/backends.h"
#include "tessera/quant/run/fake_quant_model.h"
#include "tessera/quant/run/quantizer.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kWindow = 64;
const fs::path kModel = fs::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";

/// Text that the float model writes itself.
std::vector<std::vector<int32_t>> sampled_windows() {
  const auto backend = make_backend("cpu");
  const auto model = Model::load(kModel, *backend);
  Reporter silent;
  const auto ids = sample_text(*model, /*bos=*/1, {.windows = 6, .window = kWindow, .seed = 2}, silent);
  std::vector<std::vector<int32_t>> windows;
  for (auto at = ids.begin(); at != ids.end(); at += kWindow) windows.emplace_back(at, at + kWindow);
  return windows;
}

/// Demo-llama in 8 bits with a cache of `bits`.
class QuantizedModel {
 public:
  explicit QuantizedModel(int bits)
      : dir_(fs::path(testing::TempDir()) / fmt::format("kv_cache_{}_{}", bits, getpid())) {
    const json recipe = {
        {"name", "rtn-kv"}, {"weight", {{"bits", 8}}}, {"kv_bits", bits}, {"passes", {{{"pass", "rtn"}}}}};
    Reporter silent;
    quantize({.model_dir = kModel,
              .output_dir = dir_,
              .recipe = Recipe::from_json(recipe, "test"),
              .calibration = {.windows = {windows_[0]}, .manifest = {}},
              .overwrite = true},
             silent);
  }
  ~QuantizedModel() { fs::remove_all(dir_); }

  std::vector<double> engine() const {
    const auto backend = make_backend("cpu");
    const auto model = Model::load(dir_, *backend);
    Windows windows{.length = kWindow};
    for (const auto& window : windows_) windows.ids.insert(windows.ids.end(), window.begin(), window.end());
    Reporter silent;
    return measure_perplexity(*model, windows, silent).window_nll;
  }
  std::vector<double> simulated() const { return window_nll(dir_, windows_); }

 private:
  fs::path dir_;
  std::vector<std::vector<int32_t>> windows_ = sampled_windows();
};

/// Mean absolute difference of the windows' losses.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::fabs(a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

TEST(QuantizedCache, EngineAndSimulationAgreeOnItsCost) {
  const QuantizedModel plain(16), coarse(4);
  const std::vector<double> exact = plain.simulated(), simulated = coarse.simulated();
  const double cost = distance(simulated, exact);
  EXPECT_GT(cost, 0.01);
  EXPECT_LT(distance(coarse.engine(), simulated), cost / 3);
  EXPECT_LT(distance(plain.engine(), exact), cost / 3);
}

}  // namespace
}  // namespace tessera
