// The decoder on tiny random checkpoints: against an independent computation in double, in every way of
// feeding it, and on bad input.
#include "tessera/model/context.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tessera/format/foreign/test_qqq.h"
#include "tessera/model/device_plan.h"
#include "tessera/model/test_backends.h"
#include "tessera/model/test_quantized_llama.h"

namespace tessera {
namespace {

using nlohmann::json;

class ModelTest : public testing::TestWithParam<TestBackend> {
 protected:
  ~ModelTest() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<Model> load(const TestLlama& llama) {
    std::filesystem::remove_all(dir_);
    llama.write(dir_);
    return Model::load(dir_, *backend_);
  }

  /// The message of the Error that loading throws; empty when it does not.
  std::string load_error(const TestLlama& llama) {
    try {
      load(llama);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::filesystem::path dir_ =
      std::filesystem::temp_directory_path() / fmt::format("model_test_{}", getpid());
  std::unique_ptr<Backend> backend_ = GetParam().make();
};

std::vector<int32_t> some_ids(size_t count, int32_t vocab = 50) {
  std::vector<int32_t> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int32_t>(i * i * 7 + i * 3 + 1) % vocab;
  return ids;
}

std::vector<float> all_logits(std::span<const int32_t> ids, Context& context) {
  std::vector<float> all;
  context.forward(ids, [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
  return all;
}

void expect_close(std::span<const float> got, const std::vector<std::vector<double>>& expected,
                  double tolerance) {
  size_t i = 0;
  for (const auto& row : expected) {
    for (double value : row) ASSERT_NEAR(got[i++], value, tolerance) << "logit " << i;
  }
  EXPECT_EQ(i, got.size());
}

void expect_same(std::span<const float> a, std::span<const float> b, double tolerance = 1e-5) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << i;
}

void expect_double_forward(Model& model, const TestLlama& llama, double tolerance = 1e-4) {
  Context cache(model, 40, KvFormat::kF32);
  const auto ids = some_ids(33);
  expect_close(all_logits(ids, cache), llama.logits(ids), tolerance);
}

TEST_P(ModelTest, GroupedQueryAttention) {
  for (int kv_heads : {1, 2, 4}) {
    const TestLlama llama(json{{"num_key_value_heads", kv_heads}});
    expect_double_forward(*load(llama), llama);
  }
}

TEST_P(ModelTest, RopeScaling) {
  const json linear = {{"rope_type", "linear"}, {"factor", 4.0}};
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 40}};
  for (const auto& scaling : {linear, llama3}) {
    const TestLlama llama(json{{"rope_scaling", scaling}});
    expect_double_forward(*load(llama), llama);
  }
}

TEST_P(ModelTest, TiedEmbeddings) {
  const TestLlama llama(json{{"tie_word_embeddings", true}});
  expect_double_forward(*load(llama), llama);
}

TEST_P(ModelTest, SlidingWindow) {
  const TestLlama llama(
      json{{"architectures", {"MistralForCausalLM"}}, {"model_type", "mistral"}, {"sliding_window", 5}});
  expect_double_forward(*load(llama), llama);
}

TEST_P(ModelTest, HalfPrecisionWeights) {
  TestLlama llama;
  llama.make_half();
  expect_double_forward(*load(llama), llama);
}

TEST_P(ModelTest, QuantizedLinearsFollowTheReferenceArithmetic) {
  const json four_bits = {{"bits", 4}, {"symmetric", false}, {"scale", "per_token"}};
  for (auto format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
    for (const auto& activation : {kTokenActivation, four_bits}) {
      TestLlama llama;
      quantize(llama, format, activation, kTokenActivation);
      expect_double_forward(*load(llama), llama, 1e-3);
    }
  }
}

TEST_P(ModelTest, FloatGroupScalesFollowTheReferenceArithmetic) {
  TestLlama llama(json{{"hidden_size", 64}, {"intermediate_size", 128}});
  quantize(llama, WeightFormat::kUint4Float, {{"bits", 16}}, {{"bits", 16}}, /*group_size=*/32);
  expect_double_forward(*load(llama), llama, 1e-3);
}

TEST_P(ModelTest, CheckpointsOfQqqFollowTheReferenceArithmetic) {
  const json shape = {{"hidden_size", 64}, {"intermediate_size", 128}, {"num_key_value_heads", 4}};
  for (auto format : {WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
    TestLlama llama(shape);
    quantize(llama, format, kTokenActivation, kTokenActivation);
    const int group_size = format == WeightFormat::kInt4 ? -1 : 16;
    llama.config["quantization_config"] = {{"quant_method", "qqq"}, {"wbits", 4}, {"group_size", group_size}};
    for (const auto& [name, linear] : llama.quantized) llama.foreign[name] = qqq::stored_tensors(linear);
    expect_double_forward(*load(llama), llama, 1e-3);
  }
}

TEST_P(ModelTest, LmHeadMayHoldCodes) {
  TestLlama llama;
  quantize(llama, WeightFormat::kInt4, kTokenActivation, kTokenActivation);
  QuantizedLinear& head = llama.quantized["lm_head"] = random_layer(
      {.format = WeightFormat::kInt8, .n = llama.extent("vocab_size"), .k = llama.extent("hidden_size")}, 9);
  std::ranges::fill(head.scale.as<float>(), 0.003f);
  const auto model = load(llama);
  expect_double_forward(*model, llama, 1e-3);
  EXPECT_EQ(model->linears().back().name, "lm_head");
  EXPECT_EQ(model->linears().back().bytes, head.bytes());

  llama.config["tie_word_embeddings"] = true;  // a head that is stored counts all the same
  const auto tied = load(llama);
  llama.config["tie_word_embeddings"] = false;
  expect_double_forward(*tied, llama, 1e-3);
}

TEST_P(ModelTest, LinearsOfASiteMayReadDifferentForms) {
  TestLlama llama;
  quantize(llama, WeightFormat::kInt4, kTokenActivation, kTokenActivation);
  llama.config["quantization_config"]["activation_overrides"] = {
      {"k_proj", {{"bits", 4}, {"symmetric", false}, {"scale", "per_token"}}}, {"up_proj", {{"bits", 16}}}};
  llama.quantized.erase("model.layers.1.self_attn.v_proj");  // floats beside codes
  for (auto& [name, linear] : llama.quantized) {
    if (name.ends_with("k_proj")) {
      const LayerOptions options{.n = linear.n, .k = linear.k, .activation = {.bits = 4, .symmetric = false}};
      linear = random_layer(options, 9);
    }
    if (name.ends_with("up_proj")) linear.activation = {.bits = 16};
    if (!name.ends_with("q_proj")) continue;
    std::vector<int32_t> reversed;
    for (int64_t i = linear.k; i > 0; --i) reversed.push_back(static_cast<int32_t>(i - 1));
    linear.input_index = Tensor::from<int32_t>(reversed, {linear.k});
  }
  expect_double_forward(*load(llama), llama, 1e-3);
}

TEST_P(ModelTest, QuantizedCachesAreCloseAndTheSameInPieces) {
  TestLlama llama;
  quantize(llama, WeightFormat::kInt8, kTokenActivation, kTokenActivation);
  llama.config["quantization_config"]["kv_bits"] = 8;
  const auto model = load(llama);
  EXPECT_EQ(model->kv_format(), KvFormat::kInt8);
  const auto ids = some_ids(30);
  Context exact(*model, 30, KvFormat::kF32);
  const std::vector<float> expected = all_logits(ids, exact);
  double error[2] = {};
  for (const KvFormat format : {KvFormat::kInt8, KvFormat::kInt4}) {
    model->set_kv_format(format);
    Context whole(*model, 30), pieces(*model, 30);
    const std::vector<float> all = all_logits(ids, whole);
    for (size_t i = 0; i < all.size(); ++i) {
      error[format == KvFormat::kInt4] += std::fabs(double{all[i]} - expected[i]);
    }
    const size_t width = all.size() / ids.size();
    for (size_t i = 0; i < ids.size(); ++i) {
      expect_same(pieces.forward({&ids[i], 1}), std::span(all).subspan(i * width, width));
    }
  }
  EXPECT_GT(error[0], 0);
  EXPECT_GT(error[1], 4 * error[0]) << "a step of 4 bits is 17 times one of 8";
}

TEST_P(ModelTest, LinearsAreReportedAsTheyAreStored) {
  TestLlama llama;
  quantize(llama, WeightFormat::kInt4, kTokenActivation, kTokenActivation);
  const auto model = load(llama);
  ASSERT_EQ(model->linears().size(), 15u);
  const LinearInfo& q = model->linears()[0];
  EXPECT_EQ(q.name, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(q.kernel.weight_bits, 4);
  EXPECT_EQ(q.kernel.activation_bits, 8);
  EXPECT_EQ(q.bytes, 64u * 32 / 2 + 64 * 4);
  EXPECT_EQ(model->linears().back().name, "lm_head");
  EXPECT_EQ(model->linears().back().kernel.weight_bits, 32);
}

TEST_P(ModelTest, ADevicePlanCountsWhatIsStored) {
  TestLlama llama;
  quantize(llama, WeightFormat::kInt4, kTokenActivation, kTokenActivation);
  const auto model = load(llama);
  const StepLimits limits{.rows = 2048, .logit_elements = 1 << 22};
  const DevicePlan plan = plan_device(model->dir(), limits);
  uint64_t layers = 0;
  for (const LinearInfo& linear : model->linears()) layers += linear.bytes;
  EXPECT_EQ(plan.linears, layers - model->linears().back().bytes);
  const auto table = static_cast<uint64_t>(model->spec().vocab_size * model->spec().hidden_size);
  EXPECT_EQ(plan.outer, 2 * 2 * table) << "halves of embedding and lm_head";
  EXPECT_GT(plan.workspace, 2048u * 4 * static_cast<uint64_t>(model->spec().hidden_size));
  EXPECT_NO_THROW(check_fits(plan, {.total = 1 << 30, .free = plan.total()}, "llama"));
  EXPECT_THROW(check_fits(plan, {.total = 1 << 30, .free = plan.total() - 1}, "llama"), Error);
}

TEST_P(ModelTest, ChunksAndPiecesGiveTheSameLogits) {
  const TestLlama llama(
      json{{"max_position_embeddings", 700}, {"vocab_size", 20000}});  // logits come in pieces, too
  const auto model = load(llama);
  const auto ids = some_ids(600, 20000);  // more than one chunk
  Context whole(*model, 600);
  const std::vector<float> all = all_logits(ids, whole);
  EXPECT_EQ(whole.length(), 600);

  Context cache(*model, 700);
  const auto last_logits = [&](size_t end) { return std::span(all).subspan((end - 1) * 20000, 20000); };
  const std::span<const int32_t> rest = std::span(ids);
  expect_same(cache.forward(rest.first(520)), last_logits(520));
  expect_same(cache.forward(rest.subspan(520, 77)), last_logits(597));
  for (size_t i = 597; i < 600; ++i) expect_same(cache.forward(rest.subspan(i, 1)), last_logits(i + 1));

  cache.rewind(10);
  expect_same(cache.forward(rest.subspan(10, 30)), last_logits(40));
}

/// Logits behind each of three sequences, of 3, 6 and 9 ids, whose last `together` ids run in one step.
std::vector<float> batched_logits(Model& model, int64_t together) {
  const auto ids = some_ids(9);
  const auto pool = model.make_kv_pool(3);
  Batch batch;
  for (int32_t i = 0; i < 3; ++i) {
    const std::vector<int32_t> pages = {2 - i};
    const int64_t length = 3 + 3 * i, first = std::max<int64_t>(0, length - together);
    const std::span<const int32_t> all = std::span(ids).first(static_cast<size_t>(length));
    if (first > 0) {
      Batch prompt;
      prompt.add(all.first(static_cast<size_t>(first)), 0, pages, WantedLogits::none(first));
      model.step(prompt, *pool);
    }
    batch.add(all.subspan(static_cast<size_t>(first)), first, pages, WantedLogits::last(length - first));
  }
  model.step(batch, *pool);
  const auto logits = model.logits(0, 3);
  return {logits.begin(), logits.end()};
}

TEST_P(ModelTest, SequencesOfABatchKeepToThemselves) {
  TestLlama quantized;
  quantize(quantized, WeightFormat::kInt4, kTokenActivation, kTokenActivation);
  for (const TestLlama& llama : {TestLlama(), std::move(quantized)}) {
    const auto model = load(llama);
    std::vector<float> expected;
    for (size_t length : {3, 6, 9}) {
      Context alone(*model, 20);
      const auto logits = alone.forward(some_ids(length));
      expected.insert(expected.end(), logits.begin(), logits.end());
    }
    // Single tokens, parts of prompts, whole prompts, and all of these in one step.
    for (int64_t together : {1, 2, 4, 7, 9}) {
      const auto logits = batched_logits(*model, together);
      if (llama.quantized.empty()) {
        expect_same(logits, expected, 1e-4);
      } else {
        EXPECT_EQ(logits, expected) << together;
      }
    }
  }
}

TEST_P(ModelTest, AnObserverMayReplaceTheResidualStream) {
  TestLlama quantized;
  quantize(quantized, WeightFormat::kInt4, kTokenActivation, kTokenActivation);
  const auto model = load(quantized);
  std::vector<std::vector<float>> seen;
  model->observe(
      [&](int64_t, std::span<const float> hidden) { seen.emplace_back(hidden.begin(), hidden.end()); });
  Context first(*model, 20);
  const std::vector<float> expected = all_logits(some_ids(12), first);
  model->observe([&](int64_t layer, std::span<float> hidden) {
    if (layer == 1) std::ranges::copy(seen[1], hidden.begin());
  });
  Context other(*model, 20);
  EXPECT_EQ(all_logits(std::vector<int32_t>(12, 3), other), expected);  // from the second block on
}

TEST_P(ModelTest, SamplingTakesTheWantedRows) {
  const TestLlama llama;
  const auto model = load(llama);
  const auto pool = model->make_kv_pool(1);
  Batch batch;
  batch.add(some_ids(5), 0, std::vector<int32_t>{0}, {.from = 2});
  model->step(batch, *pool);
  std::vector<int32_t> greedy(2), expected(2);
  model->sample(1, std::vector<Draw>(2), greedy);
  for (int64_t i = 0; i < 2; ++i)
    expected[static_cast<size_t>(i)] = sample_token(model->logits(1 + i, 1), {});
  EXPECT_EQ(greedy, expected);
}

TEST_P(ModelTest, BadIdsAreRefused) {
  const TestLlama llama;
  const auto model = load(llama);
  Context cache(*model, 4);
  EXPECT_THROW(cache.forward({}), Error);
  EXPECT_THROW(cache.forward(std::vector<int32_t>{50}), Error);
  EXPECT_THROW(cache.forward(std::vector<int32_t>{-1}), Error);
  EXPECT_THROW(cache.forward(some_ids(5)), Error);
  EXPECT_EQ(cache.length(), 0);
  cache.forward(some_ids(4));
  EXPECT_THROW(cache.forward(some_ids(1)), Error);
  EXPECT_THROW(Context(*model, 65), Error);
  EXPECT_THROW(Context(*model, 0), Error);
}

TEST_P(ModelTest, BadCheckpointsAreRefusedInOneLine) {
  const auto expect_error = [&](const TestLlama& llama, const char* part) {
    EXPECT_NE(load_error(llama).find(part), std::string::npos) << load_error(llama);
  };
  TestLlama missing;
  missing.float_tensors.erase("model.layers.1.mlp.up_proj");
  expect_error(missing, "model.layers.1.mlp.up_proj.weight");

  TestLlama nan;
  nan.float_tensors["model.layers.1.input_layernorm"].as<float>()[3] = std::nanf("");
  expect_error(nan, "model.layers.1.input_layernorm.weight holds a value that is not finite");

  TestLlama foreign(json{{"quantization_config", {{"quant_method", "aqlm"}, {"bits", 4}}}});
  expect_error(foreign, "quant_method: \"aqlm\" is not readable");

  TestLlama mislabelled(json{{"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}}}});
  expect_error(mislabelled, "no linear layer holds codes");

  TestLlama wide(json{{"quantization_config", {{"quant_method", "qqq"}, {"wbits", 8}}}});
  expect_error(wide, "weights of 8 bits are not readable here");

  TestLlama later(json{{"quantization_config", {{"quant_method", "tessera"}, {"version", 2}}}});
  expect_error(later, "version: 2");

  TestLlama undeclared;
  quantize(undeclared, WeightFormat::kInt4, kTokenActivation, kTokenActivation);
  undeclared.config.erase("quantization_config");
  expect_error(undeclared, "config.json has no quantization_config");

  TestLlama misspelt;
  quantize(misspelt, WeightFormat::kInt8, kTokenActivation, kTokenActivation);
  misspelt.config["quantization_config"]["activation_overrides"] = {{"down", kTokenActivation}};
  expect_error(misspelt, "'down', which is no linear layer");

  TestLlama odd_cache;
  quantize(odd_cache, WeightFormat::kInt8, kTokenActivation, kTokenActivation);
  odd_cache.config["quantization_config"]["kv_bits"] = 5;
  expect_error(odd_cache, "keys and values of 5 bits do not exist");
}

INSTANTIATE_TEST_SUITE_P(Backends, ModelTest, testing::ValuesIn(all_backends()),
                         [](const auto& test) { return test.param.name(); });

}  // namespace
}  // namespace tessera
