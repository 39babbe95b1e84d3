// Whole runs on the demonstration model: what they write, and what they refuse.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
#include <utility>

#include "tessera/arch/model_spec.h"
#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/reference.h"
#include "tessera/quant/run/disk_plan.h"
#include "tessera/quant/run/run_checks.h"
#include "tessera/quant/run/test_run.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

TEST_F(RunTest, CodesOfOtherToolsAreASource) {
  const fs::path source = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "foreign" / "gptq-act-order";
  options_.model_dir = source;
  options_.recipe = find_method("rtn").with_weight(8, 0);
  for (auto& window : options_.calibration.windows) {
    for (int32_t& id : window) id %= 64;
  }
  ASSERT_EQ(run(), "");
  // 8-bit codes of the dequantized weights: at most half a step off.
  const auto read = [](const fs::path& dir, int64_t n, int64_t k) {
    const auto quantization = read_quantization_config(ModelConfig::load(dir));
    return input_weights(
        load_quantized_linear(Checkpoint(dir), "model.layers.0.mlp.down_proj", *quantization, n, k));
  };
  const std::vector<float> theirs = read(source, 64, 128), ours = read(dir_ / "out", 64, 128);
  const auto magnitude = [](float a, float b) { return std::fabs(a) < std::fabs(b); };
  const float largest = std::fabs(*std::ranges::max_element(theirs, magnitude));
  for (size_t i = 0; i < theirs.size(); ++i) ASSERT_NEAR(ours[i], theirs[i], largest / 250) << i;
}

TEST_F(RunTest, WritesACheckpointThatReadsBack) {
  options_.recipe = options_.recipe.with_weight(4, 128);
  ASSERT_EQ(run(), "");
  const fs::path out = dir_ / "out";
  const ModelConfig config = ModelConfig::load(out);
  const ModelSpec spec = make_model_spec(config);
  const Checkpoint checkpoint(out), original(demo_);
  check_tensors(spec, checkpoint);
  const auto quantization = read_quantization_config(config);
  ASSERT_TRUE(quantization);
  for (int64_t layer = 0; layer < spec.n_layers; ++layer) {
    for (LinearId id : spec.linear_ids()) {
      const QuantizedLinear linear = load_quantized_linear(
          checkpoint, spec.linear_name(layer, id), *quantization, spec.linears[id].n, spec.linears[id].k);
      EXPECT_EQ(linear.group_size, 128);
    }
    const TensorView& norm = checkpoint.at(spec.norm_name(layer, kMlpNorm) + ".weight");
    EXPECT_EQ(norm.dtype, DType::kBF16) << "an unchanged norm keeps its dtype";
  }
  const TensorView &embedding = checkpoint.at(spec.embedding), &source = original.at(spec.embedding);
  EXPECT_EQ(std::memcmp(embedding.data, source.data, source.bytes()), 0);

  const json section = config.values()["quantization_config"];
  EXPECT_EQ(section["quant_method"], "tessera");
  EXPECT_EQ(section["activation"], to_json(ActivationFormat{}));
  EXPECT_EQ(Recipe::from_json(section["recipe"], "").to_json(), options_.recipe.to_json());
  EXPECT_EQ(config.get<std::string>("torch_dtype"), "bfloat16");

  std::set<std::string> names;
  for (const auto& [name, content] : files(out)) names.insert(name);
  EXPECT_EQ(names, (std::set<std::string>{"config.json", "generation_config.json", "model.safetensors",
                                          "report.json", "special_tokens_map.json", "tokenizer.json",
                                          "tokenizer_config.json"}));
  EXPECT_EQ(read_file(out / "tokenizer.json"), read_file(demo_ / "tokenizer.json"));
}

TEST_F(RunTest, ReportsWhatItDid) {
  ASSERT_EQ(run(), "");
  const json report = json::parse(read_file(dir_ / "out" / "report.json"));
  EXPECT_EQ(report["recipe"], options_.recipe.to_json());
  EXPECT_EQ(report["calibration"], options_.calibration.manifest);
  EXPECT_GT(report["peak_bytes"].get<double>(), 0);
  ASSERT_EQ(report["blocks"].size(), 6u);
  for (const json& block : report["blocks"]) {
    EXPECT_GT(block["output_error"].get<double>(), 0);
    EXPECT_LT(block["output_error"].get<double>(), 0.5);
  }
  EXPECT_NE(reporter_.text.find("predicted peak memory"), std::string::npos);
}

TEST_F(RunTest, OneGroupPassIsEnough) {
  const json correct = {{"pass", "correct"}};
  options_.recipe.passes = json::array({correct, correct, {{"pass", "rtn"}}});
  expect_error("only one pass can work on groups");
}

TEST_F(RunTest, FinalNormIsFittedToTheQuantizedBlocks) {
  const auto recipe = [](bool final_norm) {
    return json::array({{{"pass", "correct"}, {"epochs", 1}, {"final_norm", final_norm}}, {{"pass", "rtn"}}});
  };
  options_.recipe.scheme = {{4, 0, false}, {4, false, true}};
  for (const bool fitted : {false, true}) {
    options_.output_dir = dir_ / (fitted ? "fitted" : "plain");
    options_.recipe.passes = recipe(fitted);
    ASSERT_EQ(run(), "");
  }
  const ModelSpec spec = make_model_spec(ModelConfig::load(demo_));
  const Checkpoint fitted(dir_ / "fitted"), plain(dir_ / "plain");
  check_tensors(spec, fitted);
  for (const auto& [name, info] : plain.tensors()) {
    const bool norm = name == spec.final_norm + ".weight";
    EXPECT_EQ(fitted.info(name).dtype, norm ? DType::kF32 : info.dtype) << name;
    const TensorView &a = fitted.at(name), &b = plain.at(name);
    if (!norm) {
      EXPECT_EQ(std::memcmp(a.data, b.data, b.bytes()), 0) << name;
    }
  }
  const json blocks = json::parse(read_file(dir_ / "fitted" / "report.json"))["blocks"];
  const json norm = blocks[5]["passes"]["correct"]["final_norm"];
  EXPECT_TRUE(norm["kept"].get<bool>());
  EXPECT_LT(norm["error_after"].get<double>(), norm["error_before"].get<double>());
}

TEST_F(RunTest, RotationLeavesNoFinalNormToFit) {
  const json correct = {{"pass", "correct"}, {"epochs", 1}, {"final_norm", true}};
  options_.recipe.passes = json::array({{{"pass", "rotate"}}, correct, {{"pass", "rtn"}}});
  expect_error("set final_norm of correct to false");
}

TEST_F(RunTest, WhatWorksOnFloatsStandsInFront) {
  options_.recipe.passes = json::array({{{"pass", "rtn"}}, {{"pass", "smooth"}}});
  expect_error("smooth works on floats; put it in front of the pass that quantizes");
  options_.recipe.passes = json::array({{{"pass", "tune"}}, {{"pass", "rtn"}}});
  expect_error("put it behind rtn or gptq");
}

TEST_F(RunTest, DistillationChangesVectorsOnly) {
  const fs::path plain = dir_ / "plain", distilled = dir_ / "distilled";
  for (const bool with : {false, true}) {
    options_.output_dir = with ? distilled : plain;
    if (with)
      options_.recipe.passes.push_back({{"pass", "distill"}, {"steps", 5}, {"learning_rate", 0.0005}});
    ASSERT_EQ(run(), "");
  }
  const ModelSpec spec = make_model_spec(ModelConfig::load(demo_));
  const Checkpoint before(plain), after(distilled);
  check_tensors(spec, after);
  EXPECT_EQ(after.names(), before.names());
  std::set<std::string> changed;
  for (const std::string& name : before.names()) {
    const TensorView &a = before.at(name), &b = after.at(name);
    if (a.bytes() == b.bytes() && std::memcmp(a.data, b.data, a.bytes()) == 0) continue;
    changed.insert(name);
    EXPECT_EQ(b.dtype, DType::kF32) << name;
    EXPECT_EQ(b.shape.size(), 1u) << name;
  }
  EXPECT_TRUE(changed.contains(spec.final_norm + ".weight"));
  EXPECT_TRUE(changed.contains(spec.norm_name(0, kMlpNorm) + ".weight"));
  EXPECT_TRUE(changed.contains(spec.linear_name(5, spec.id(kDown)) + ".scale"));
  const json report = json::parse(read_file(distilled / "report.json"))["whole_model"]["distill"];
  EXPECT_TRUE(report["kept"].get<bool>());
  EXPECT_LT(report["divergence_after"].get<double>(), report["divergence_before"].get<double>());
  EXPECT_FALSE(fs::exists(distilled / "trained.safetensors"));
}

/// What they fold and fit outside the blocks is what distillation starts from.
TEST_F(RunTest, DistillationWorksBehindPassesThatChangeOuterWeights) {
  const json distill{{"pass", "distill"}, {"steps", 2}, {"batch", 1}}, rtn{{"pass", "rtn"}},
      rotate{{"pass", "rotate"}}, correct{{"pass", "correct"}, {"epochs", 1}, {"final_norm", true}};
  options_.overwrite = true;
  const auto expect_small_divergence = [&](const json& passes, bool lm_head_w8a8) {
    options_.recipe.passes = passes;
    options_.recipe.lm_head_w8a8 = lm_head_w8a8;
    ASSERT_EQ(run(), "");
    const json report = json::parse(read_file(dir_ / "out" / "report.json"));
    const double divergence = report["whole_model"]["distill"]["divergence_before"].get<double>();
    EXPECT_GT(divergence, 0) << passes;
    EXPECT_LT(divergence, 0.5) << passes;
  };
  expect_small_divergence(json::array({rotate, rtn, distill}), false);
  expect_small_divergence(json::array({rotate, rtn, distill}), true);
  expect_small_divergence(json::array({correct, rtn, distill}), true);
  expect_small_divergence(json::array({rtn, distill}), true);
}

/// Norm times weights is what it was, to rounding, however channels are shared between the two.
TEST_F(RunTest, ABalancedLmHeadComputesWhatTheModelDid) {
  options_.recipe = find_method("rtn").with_setting("lm_head=w8a8");
  const Checkpoint original(demo_);
  const ModelSpec spec = make_model_spec(ModelConfig::load(demo_));
  const std::string norm = spec.final_norm + ".weight";
  const std::vector<float> gain = to_floats(original.at(norm)),
                           weights = to_floats(original.at(spec.lm_head));
  const auto gain_beside_close_weights = [&] {
    const auto quantization = read_quantization_config(ModelConfig::load(dir_ / "out"));
    const Checkpoint checkpoint(dir_ / "out");
    const QuantizedLinear head =
        load_quantized_linear(checkpoint, "lm_head", *quantization, spec.vocab_size, spec.hidden_size);
    const std::vector<float> found = input_weights(head), own_gain = to_floats(checkpoint.at(norm));
    float largest = 0;  // difference, in steps of the codes
    for (size_t i = 0; i < weights.size(); ++i) {
      const size_t n = i / gain.size(), k = i % gain.size();
      const float difference = std::fabs(own_gain[k] * found[i] - gain[k] * weights[i]);
      largest = std::max(largest, difference / (std::fabs(own_gain[k]) * head.scale.as<float>()[n]));
    }
    EXPECT_LT(largest, 0.51f);
    return own_gain;
  };
  ASSERT_EQ(run(), "");
  EXPECT_NE(gain_beside_close_weights(), gain);
  const json report =
      json::parse(read_file(dir_ / "out" / "report.json"))["blocks"].back()["passes"]["lm_head"];
  EXPECT_LT(report["error_balanced"].get<double>(), 0.9 * report["error_plain"].get<double>());

  options_.calibration = {};
  options_.overwrite = true;
  ASSERT_EQ(run(), "");
  EXPECT_EQ(gain_beside_close_weights(), gain) << "nothing is known of the inputs";
}

TEST_F(RunTest, TrainingNeedsWindowsToJudgeBy) {
  options_.calibration.windows.resize(1);
  options_.calibration.windows.push_back(options_.calibration.windows[0]);
  for (const char* pass : {"tune", "distill"}) {
    options_.recipe = find_method("rtn").with_setting(fmt::format("{}=on", pass));
    expect_error(fmt::format("{} needs 2 different calibration windows at least", pass));
  }
}

TEST_F(RunTest, RowsRoundedWithoutCalibrationDoNotDependOnThreads) {
  options_.calibration = {};
  const int threads = thread_count();
  ASSERT_EQ(run(), "");
  auto straight = files(dir_ / "out");
  fs::rename(dir_ / "out", dir_ / "straight");
  kill_after(2);
  set_thread_count(threads + 1);
  options_.resume = true;
  EXPECT_EQ(run(), "");
  set_thread_count(threads);
  auto resumed = files(dir_ / "out");
  straight.erase("report.json");
  resumed.erase("report.json");
  EXPECT_EQ(resumed, straight);
}

TEST_F(RunTest, CalibrationChangesNothingWhereItIsNotNeeded) {
  ASSERT_EQ(run(), "");
  auto with = files(dir_ / "out");
  fs::remove_all(dir_ / "out");
  options_.calibration = {};
  ASSERT_EQ(run(), "");
  auto without = files(dir_ / "out");
  EXPECT_TRUE(json::parse(without["report.json"])["calibration"].is_null());
  with.erase("report.json");
  without.erase("report.json");
  EXPECT_EQ(with, without);
}

TEST_F(RunTest, AsksForTheRoomThatItNeeds) {
  for (const char* method : {"rtn-g128", "quik", "qqq-rotation"}) {
    options_.output_dir = dir_ / method;
    options_.recipe = method_recipe(method);
    ASSERT_EQ(run(), "");
    uint64_t written = 0;
    for (const auto& [name, content] : files(options_.output_dir)) {
      if (name.ends_with(".safetensors")) written += content.size();
    }
    const Checkpoint source(demo_);
    const ModelSpec spec = make_model_spec(ModelConfig::load(demo_), source);
    std::vector<std::unique_ptr<Pass>> passes;
    for (const json& step : options_.recipe.passes) passes.push_back(make_pass(step));
    const DiskPlan plan = plan_disk(spec, source, options_.recipe.schemes(spec), passes, 4, 48);
    EXPECT_GE(plan.result, written) << method;
    EXPECT_LE(static_cast<double>(plan.result), 1.2 * static_cast<double>(written)) << method;
    EXPECT_EQ(plan.streams, 2u * 2 * 4 * 48 * 256 * sizeof(float));
  }
}

/// The data of every shard, from its first byte to its last.
TEST_F(RunTest, ShardsHaveNoHoles) {
  options_.recipe = find_method("dgq-static");
  ASSERT_EQ(run(), "");
  for (const auto& [name, content] : files(dir_ / "out")) {
    if (!name.ends_with(".safetensors")) continue;
    uint64_t header_bytes = 0, data_bytes = 0;
    std::memcpy(&header_bytes, content.data(), 8);
    const json header = json::parse(content.substr(8, header_bytes));
    for (const auto& [tensor, entry] : header.items()) {
      if (tensor == "__metadata__") continue;
      data_bytes += entry["data_offsets"][1].get<uint64_t>() - entry["data_offsets"][0].get<uint64_t>();
    }
    EXPECT_EQ(8 + header_bytes + data_bytes, content.size()) << name;
  }
}

TEST_F(RunTest, RefusesBadModels) {
  const fs::path model = copy_model();
  const std::string weights = read_file(model / "model.safetensors"),
                    config = read_file(model / "config.json");
  write_file(model / "model.safetensors", weights.substr(0, weights.size() / 2));
  expect_error("model.safetensors");
  std::string damaged = weights;
  const uint16_t nan = 0x7fc0;
  std::memcpy(damaged.data() + damaged.size() - 2, &nan, 2);
  write_file(model / "model.safetensors", damaged);
  expect_error("NaN or infinity");
  write_file(model / "model.safetensors", weights);

  json changed = json::parse(config);
  changed["intermediate_size"] = 512;
  write_file(model / "config.json", changed.dump());
  expect_error("has shape [768, 256]");
  changed = json::parse(config);
  changed["num_hidden_layers"] = 7;
  write_file(model / "config.json", changed.dump());
  expect_error("model.layers.6.input_layernorm.weight is missing");
  changed["architectures"] = {"MysteryForCausalLM"};
  write_file(model / "config.json", changed.dump());
  expect_error("MysteryForCausalLM");
  write_file(model / "config.json", "{");
  expect_error("config.json");
}

TEST_F(RunTest, RefusesQuantizedModels) {
  ASSERT_EQ(run(), "");
  options_.model_dir = dir_ / "out";
  options_.output_dir = dir_ / "twice";
  EXPECT_NE(run().find("quantized already"), std::string::npos);
}

TEST_F(RunTest, RefusesBadCalibration) {
  options_.recipe = find_method("gptq");
  options_.calibration.windows = {};
  expect_error("no calibration text");
  options_.calibration.windows = {std::vector<int32_t>(513)};
  expect_error("exceed the model's context of 512");
  options_.calibration.windows = {{1, 2, 4096}};
  expect_error("token 4096 is outside the vocabulary of 4096");
  options_.calibration.windows = {{1, 2, -1}};
  expect_error("token -1 is outside");
  options_.calibration.windows = {{1, 2}, {3}};
  expect_error("differ in length");
}

TEST(RunChecks, WarnOfLearnedPositionsThatNoWindowReaches) {
  ModelSpec spec;
  spec.max_positions = 1024;
  EXPECT_EQ(calibration_warning(spec, 256), "");
  spec.positions = Positions::kLearned;
  EXPECT_EQ(calibration_warning(spec, 1024), "");
  EXPECT_NE(calibration_warning(spec, 256).find("only the first 256 of 1024"), std::string::npos);
}

TEST_F(RunTest, RefusesBadOptions) {
  options_.device = "tpu";
  expect_error("device 'tpu' is not known");
  options_.device = "cuda:x";
  expect_error("device 'cuda:x' is not known");
  options_.device = "cpu";
  options_.recipe.passes = json::array({{{"pass", "alchemy"}}});
  expect_error("alchemy");
}

TEST_F(RunTest, SaysWhenTheOutputCannotBeWritten) {
  options_.output_dir = "/proc/tessera/out";
  EXPECT_NE(run().find("/proc/tessera/out.partial: cannot create"), std::string::npos);
}

/// Files may not grow beyond `bytes` while it lives, as on a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limited = before_;
    limited.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(RunTest, LeavesNothingHalfWrittenOnAFullDisk) {
  {
    const FileSizeLimit limit(100'000);  // less than the embedding
    expect_error("cannot write");
  }
  kill_after(2);
  options_.resume = true;
  {
    const FileSizeLimit limit(100'000);
    const std::string message = run();
    EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
    EXPECT_NE(message.find("2 of 6 blocks are kept"), std::string::npos) << message;
    EXPECT_FALSE(fs::exists(dir_ / "out"));
  }
  EXPECT_EQ(run(), "");
}

}  // namespace
}  // namespace tessera
