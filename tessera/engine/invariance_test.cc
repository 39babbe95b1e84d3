// A quantized model computes the same bits for a sequence alone, in any batch, in any chunks, with and
// without the prefix cache and after preemption.
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>
#include <set>

#include "tessera/base/hash.h"
#include "tessera/engine/batch_engine.h"
#include "tessera/kernels/backends.h"
#include "tessera/model/test_quantized_llama.h"

namespace tessera {
namespace {

constexpr int64_t kPrompts = 64;

struct Format {
  const char* name;
  WeightFormat weight;
  nlohmann::json activation;
  KvFormat kv;
};

const nlohmann::json kFourBits = {{"bits", 4}, {"symmetric", false}, {"scale", "per_token"}};
const Format kFormats[] = {{"w4a8_kv16", WeightFormat::kInt4, kTokenActivation, KvFormat::kF16},
                           {"w4a8_g128_kv8", WeightFormat::kUint4Grouped, kTokenActivation, KvFormat::kInt8},
                           {"w8a8_kv4", WeightFormat::kInt8, kTokenActivation, KvFormat::kInt4},
                           {"w4a16_g128_kv16", WeightFormat::kUint4Float, {{"bits", 16}}, KvFormat::kF16},
                           {"w4a4_asymmetric_kv16", WeightFormat::kInt4, kFourBits, KvFormat::kF16}};

/// What a run computed: the residual stream behind the last block of every row, and every text.
struct Outcome {
  std::set<std::string> rows;
  std::vector<std::vector<int32_t>> texts;
  SchedulerCounters counters;
};

class Invariance : public testing::TestWithParam<Format> {
 protected:
  Invariance() {
    TestLlama llama({{"hidden_size", 128},
                     {"head_dim", 32},
                     {"intermediate_size", 256},
                     {"max_position_embeddings", 512}});
    const auto& down = GetParam().activation["bits"] == 16 ? GetParam().activation : kTokenActivation;
    quantize(llama, GetParam().weight, GetParam().activation, down, /*group_size=*/128);
    llama.write(dir_);
    model_ = Model::load(dir_, *backend_);
    model_->set_kv_format(GetParam().kv);
    std::mt19937 random(1);
    std::vector<int32_t> beginning(130);  // of half of the prompts
    for (int32_t& id : beginning) id = static_cast<int32_t>(random() % 50);
    for (int64_t i = 0; i < kPrompts; ++i) {
      std::vector<int32_t> prompt;
      if (i % 2 == 0) prompt = beginning;
      for (size_t n = 1 + random() % 100; n > 0; --n) prompt.push_back(static_cast<int32_t>(random() % 50));
      prompts_.push_back(std::move(prompt));
    }
  }
  ~Invariance() override { std::filesystem::remove_all(dir_); }

  Request request(size_t i, Outcome& outcome) const {
    return {.prompt = prompts_[i],
            .sampling = {.temperature = 1, .seed = i},
            .max_tokens = static_cast<int64_t>(5 + i % 40),
            .on_token = [&outcome, i](int32_t id) { outcome.texts[i].push_back(id); }};
  }

  /// Runs the prompts, at most `together` at once.
  Outcome run(const EngineOptions& options, int64_t together) {
    Outcome outcome;
    outcome.texts.resize(prompts_.size());
    const auto width = static_cast<size_t>(model_->spec().hidden_size);
    model_->observe([&](int64_t layer, std::span<const float> hidden) {
      if (layer < model_->spec().n_layers) return;
      for (size_t i = 0; i < hidden.size(); i += width) {
        const auto bytes = std::as_bytes(hidden.subspan(i, width));
        outcome.rows.emplace(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      }
    });
    EngineOptions limited = options;
    limited.max_sequences = together;
    BatchEngine engine(*model_, limited);
    for (size_t i = 0; i < prompts_.size(); ++i) engine.submit(request(i, outcome));
    while (engine.step()) {
    }
    model_->observe(nullptr);
    outcome.counters = engine.scheduler().counters();
    return outcome;
  }

  std::filesystem::path dir_ =
      std::filesystem::temp_directory_path() / fmt::format("invariance_test_{}", getpid());
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  std::unique_ptr<Model> model_;
  std::vector<std::vector<int32_t>> prompts_;
};

TEST_P(Invariance, NothingElseChangesABit) {
  const int64_t room = pages_for_sequences(kPrompts, 300);
  const Outcome alone = run({.step_tokens = 512, .pages = room, .prefix_cache = false}, 1);
  size_t positions = 0;
  for (size_t i = 0; i < prompts_.size(); ++i) positions += prompts_[i].size() + alone.texts[i].size() - 1;
  EXPECT_GT(alone.rows.size(), positions / 2) << "half of the prompts share their beginning";
  for (int64_t together : {2, 7, 64}) {
    for (int64_t chunk : {64, 100, 512}) {
      const Outcome batch = run({.step_tokens = chunk, .pages = room, .prefix_cache = false}, together);
      EXPECT_EQ(batch.texts, alone.texts) << together << " at once, chunks of " << chunk;
      EXPECT_TRUE(batch.rows == alone.rows) << together << " at once, chunks of " << chunk;
    }
  }
  const Outcome cached = run({.step_tokens = 128, .pages = room}, 16);
  EXPECT_GT(cached.counters.prefix_hit_tokens, 0);
  EXPECT_EQ(cached.texts, alone.texts);
  EXPECT_TRUE(std::ranges::includes(alone.rows, cached.rows));

  const Outcome crowded = run({.step_tokens = 256, .pages = 40, .prefix_cache = false}, 64);
  EXPECT_GT(crowded.counters.preemptions, 0);
  EXPECT_EQ(crowded.texts, alone.texts);
  EXPECT_TRUE(crowded.rows == alone.rows);
}

INSTANTIATE_TEST_SUITE_P(Formats, Invariance, testing::ValuesIn(kFormats),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace tessera
