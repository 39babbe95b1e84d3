// Models are measured at the points that were asked for, with weights made from a config.json alone.
#include "tessera/bench/model_bench.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/bench/random_model.h"
#include "tessera/kernels/backends.h"

namespace tessera {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(TESSERA_SOURCE_DIR) / "models/demo-llama";

class ModelBench : public testing::Test {
 protected:
  ~ModelBench() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_ =
      std::filesystem::temp_directory_path() / fmt::format("model_bench_test_{}", getpid());
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  const MachineLimits limits_{.threads = 1, .integer_ops = 1e12, .float_ops = 1e11, .read_bandwidth = 1e10};
};

TEST_F(ModelBench, RandomModelsRunInTheirFormat) {
  const std::pair<GemmFormat, bool> list[] = {{GemmFormat::kBf16, false},
                                              {GemmFormat::kW4A8, false},
                                              {GemmFormat::kW4A8Group128, false},
                                              {GemmFormat::kW4A8, true},
                                              {GemmFormat::kW8A8, true}};
  for (const auto& [format, lm_head_w8a8] : list) {
    SCOPED_TRACE(fmt::format("{} {}", name_of(format), lm_head_w8a8));
    write_random_model(kDemo / "config.json", format, dir_, lm_head_w8a8);
    const auto model = Model::load(dir_, *backend_);
    EXPECT_EQ(model->linears().front().kernel.activation_bits, is_float(format) ? 32 : 8);
    EXPECT_EQ(model->linears().back().kernel.activation_bits, lm_head_w8a8 ? 8 : 32);
    const ModelSpeed prefill = measure_prefill(*model, 40, {.seconds = 0.001});
    EXPECT_NEAR(prefill.rate * prefill.seconds, 40, 1e-9);
    const ModelSpeed decode = measure_decode(*model, 3, 70, 1, {.seconds = 0.001});
    EXPECT_NEAR(decode.rate * decode.seconds, 3, 1e-9);
    double weights = 0;
    for (const LinearInfo& linear : model->linears()) weights += static_cast<double>(linear.bytes);
    const auto& spec = model->spec();
    const auto kv = static_cast<double>(2 * spec.n_layers * spec.kv_size() * 2);  // float16
    EXPECT_NEAR(decode.bytes_per_token, weights / 3 + 71 * kv, 1);
    // At these limits the demonstration model's layers are bound by memory in decode.
    const double seconds = (weights + 3 * 70 * kv) / limits_.read_bandwidth;
    EXPECT_NEAR(roofline_share(*model, decode, limits_), seconds / decode.seconds,
                0.05 * seconds / decode.seconds);
  }
}

TEST_F(ModelBench, SamplesAreCountedAndStepsShareOne) {
  const auto model = Model::load(kDemo, *backend_);
  const ModelSpeed one = measure_prefill(*model, 20, {.samples = 1});
  EXPECT_EQ(one.samples, std::vector<double>{one.seconds});
  EXPECT_EQ(one.rate_deviation, 0);
  const ModelSpeed decode = measure_decode(*model, 2, 100, 4, {.samples = 5});
  ASSERT_EQ(decode.samples.size(), 5u);
  EXPECT_GT(decode.rate_deviation, 0);
  const auto [least, most] = std::ranges::minmax(decode.samples);
  EXPECT_GE(4 * decode.seconds, least);
  EXPECT_LE(4 * decode.seconds, most);
  EXPECT_NEAR(decode.rate * decode.seconds, 2, 1e-9);
  const ModelSpeed step = measure_decode(*model, 2, 100, 1, {.samples = 1});
  const auto& spec = model->spec();
  const auto kv = static_cast<double>(2 * spec.n_layers * spec.kv_size() * 2);  // float16
  EXPECT_NEAR(decode.bytes_per_token - step.bytes_per_token, 1.5 * kv, 1);
  EXPECT_GE(measure_prefill(*model, 20, {.seconds = 0}).samples.size(), 3u);
}

TEST_F(ModelBench, ImpossiblePointsAreRefused) {
  const auto model = Model::load(kDemo, *backend_);
  EXPECT_THROW(measure_prefill(*model, 513, {}), Error);
  EXPECT_THROW(measure_decode(*model, 0, 10, 1, {}), Error);
  EXPECT_THROW(measure_decode(*model, 1, 512, 1, {}), Error);
  EXPECT_THROW(write_random_model(dir_ / "absent" / "config.json", GemmFormat::kW4A8, dir_), Error);
}

}  // namespace
}  // namespace tessera
