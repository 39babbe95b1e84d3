// Whole runs on the demonstration model: what they write, how they resume, and what they refuse.
#include "tessera/quant/quantizer.h"

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
#include "tessera/quant/disk_plan.h"
#include "tessera/quant/run_checks.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// Thrown by a reporter in the middle of a run; no handler of the run catches it, as if the process died.
struct Killed {};

class KillAfter : public Reporter {
 public:
  explicit KillAfter(double blocks) : blocks_(blocks) {}
  void progress(std::string_view, int64_t done, int64_t total) override {
    if (static_cast<double>(done) * kDemoBlocks >= blocks_ * static_cast<double>(total)) throw Killed();
  }
  static constexpr int kDemoBlocks = 6;

 private:
  double blocks_;
};

class Notes : public Reporter {
 public:
  void note(std::string_view line) override { (text += line) += '\n'; }
  std::string text;
};

class QuantizerTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    options_.model_dir = demo_;
    options_.output_dir = dir_ / "out";
    options_.recipe = find_method("rtn");
    options_.calibration = windows(0);
  }
  void TearDown() override { fs::remove_all(dir_); }

  static CalibrationSet windows(uint64_t seed) {
    std::vector<int32_t> ids(500);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>((i * 7919 + 13) % 4096);
    return sample_windows(ids, 4, 48, seed, "arithmetic");
  }

  /// The message of the Error that the run ends in; empty when it succeeds.
  std::string run() { return run(reporter_); }
  std::string run(Reporter& reporter) {
    try {
      quantize(options_, reporter);
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << "more than one line";
      return e.what();
    }
    return "";
  }

  void expect_error(const std::string& text) {
    const std::string message = run();
    EXPECT_NE(message.find(text), std::string::npos) << message;
    EXPECT_FALSE(fs::exists(dir_ / "out"));
    EXPECT_FALSE(fs::exists(dir_ / "out.partial"));
  }

  /// A copy of the demonstration model that a test may damage.
  fs::path copy_model() {
    const fs::path copy = dir_ / "model";
    fs::create_directories(copy);
    for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
      fs::copy_file(demo_ / name, copy / name);
    }
    options_.model_dir = copy;
    return copy;
  }

  void kill_after(double blocks) {
    KillAfter killer(blocks);
    EXPECT_THROW(quantize(options_, killer), Killed);
    EXPECT_FALSE(fs::exists(dir_ / "out"));
    EXPECT_TRUE(fs::exists(dir_ / "out.partial" / "journal.json"));
  }

  static std::map<std::string, std::string> files(const fs::path& dir) {
    std::map<std::string, std::string> contents;
    for (const auto& entry : fs::directory_iterator(dir)) {
      contents[entry.path().filename().string()] = read_file(entry.path());
    }
    return contents;
  }

  const fs::path demo_ = fs::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";
  fs::path dir_;
  QuantizeOptions options_;
  Notes reporter_;
};

TEST_F(QuantizerTest, CodesOfOtherToolsAreASource) {
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

TEST_F(QuantizerTest, WritesACheckpointThatReadsBack) {
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
    for (LinearId id : spec.existing_linears()) {
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
  EXPECT_EQ(names, (std::set<std::string>{
                       "config.json", "generation_config.json", "model-00001-of-00007.safetensors",
                       "model-00002-of-00007.safetensors", "model-00003-of-00007.safetensors",
                       "model-00004-of-00007.safetensors", "model-00005-of-00007.safetensors",
                       "model-00006-of-00007.safetensors", "model-00007-of-00007.safetensors",
                       "model.safetensors.index.json", "report.json", "special_tokens_map.json",
                       "tokenizer.json", "tokenizer_config.json"}));
  EXPECT_EQ(read_file(out / "tokenizer.json"), read_file(demo_ / "tokenizer.json"));
}

TEST_F(QuantizerTest, ReportsWhatItDid) {
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

TEST_F(QuantizerTest, ResumesToTheSameBytes) {
  ASSERT_EQ(run(), "");
  auto straight = files(dir_ / "out");
  fs::rename(dir_ / "out", dir_ / "straight");
  kill_after(2);
  write_file(dir_ / "out.partial" / "model-00005-of-00007.safetensors", "cut off by the end of the process");
  write_file(dir_ / "out.partial" / "streams-00003.safetensors.partial", "so is this");
  write_file(dir_ / "out.partial" / "streams-00001.safetensors", "not yet removed");
  options_.resume = true;
  kill_after(4.01);  // in the middle of a block
  ASSERT_EQ(run(), "");
  auto resumed = files(dir_ / "out");
  EXPECT_NE(reporter_.text.find("resuming after 4 of 6 blocks"), std::string::npos) << reporter_.text;
  EXPECT_EQ(json::parse(resumed["report.json"])["blocks"].size(), 6u);
  resumed.erase("report.json");
  straight.erase("report.json");
  EXPECT_EQ(resumed, straight);
}

TEST_F(QuantizerTest, GroupsOfBlocksResumeToTheSameBytes) {
  options_.recipe.passes = json::array({{{"pass", "reassemble"}, {"tokens", 48}, {"candidates", 2}},
                                        {{"pass", "correct"}, {"epochs", 1}, {"blocks", 4}},
                                        {{"pass", "rtn"}}});
  options_.recipe.scheme = {{4, 0, false}, {4, false, true}};
  ASSERT_EQ(run(), "");
  auto straight = files(dir_ / "out");
  const json report = json::parse(straight["report.json"]);
  EXPECT_EQ(report["blocks"].size(), 6u);
  EXPECT_EQ(report["blocks"][3]["passes"]["correct"]["blocks"], 4);
  EXPECT_EQ(report["blocks"][5]["passes"]["correct"]["blocks"], 2) << "the last group is shorter";
  fs::rename(dir_ / "out", dir_ / "straight");
  kill_after(3.2);  // of the two groups of the progress, in the second
  EXPECT_TRUE(fs::exists(dir_ / "out.partial" / "streams-00004.safetensors"));
  options_.resume = true;
  ASSERT_EQ(run(), "");
  auto resumed = files(dir_ / "out");
  EXPECT_NE(reporter_.text.find("resuming after 4 of 6 blocks"), std::string::npos) << reporter_.text;
  resumed.erase("report.json");
  straight.erase("report.json");
  EXPECT_EQ(resumed, straight);
}

TEST_F(QuantizerTest, OneGroupPassIsEnough) {
  const json correct = {{"pass", "correct"}};
  options_.recipe.passes = json::array({correct, correct, {{"pass", "rtn"}}});
  expect_error("only one pass can work on groups");
}

TEST_F(QuantizerTest, ResumeRefusesAnotherModelTextOrRecipe) {
  const fs::path model = copy_model();
  kill_after(2);
  const auto expect_refusal = [&](const std::string& text) {
    options_.resume = true;
    const std::string message = run();
    EXPECT_NE(message.find(text), std::string::npos) << message;
    EXPECT_TRUE(fs::exists(dir_ / "out.partial")) << "the finished blocks must survive";
  };
  options_.calibration = windows(1);
  expect_refusal("the calibration differs");
  options_.calibration = windows(0);
  options_.recipe = options_.recipe.with_weight(4, 128);
  expect_refusal("the recipe differs");
  options_.recipe = find_method("rtn");
  {
    std::fstream file(model / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-2, std::ios::end);
    file.write("\0\0", 2);
  }
  expect_refusal("the model differs");
}

TEST_F(QuantizerTest, AsksBeforeItDiscardsAnInterruptedRun) {
  kill_after(1);
  EXPECT_NE(run().find("continue it with --resume or discard it with --overwrite"), std::string::npos);
  options_.overwrite = true;
  EXPECT_EQ(run(), "");
}

TEST_F(QuantizerTest, ResumeAndOverwriteStartAfreshWhereTheRunIsAnother) {
  kill_after(2);
  options_.recipe = options_.recipe.with_weight(4, 128);
  options_.resume = true;
  EXPECT_NE(run().find("the recipe differs"), std::string::npos);
  EXPECT_NE(run().find("or start afresh with --overwrite"), std::string::npos);
  options_.overwrite = true;
  EXPECT_EQ(run(), "");
  EXPECT_NE(reporter_.text.find("starting afresh: "), std::string::npos) << reporter_.text;
  EXPECT_EQ(json::parse(read_file(dir_ / "out" / "report.json"))["recipe"], options_.recipe.to_json());
}

TEST_F(QuantizerTest, ResumeWithNothingThereStarts) {
  options_.resume = true;
  EXPECT_EQ(run(), "");
  EXPECT_NE(reporter_.text.find("nothing to resume"), std::string::npos);
}

TEST_F(QuantizerTest, ReplacesOnlyWhatItWroteAndOnlyWhenTold) {
  const fs::path out = dir_ / "out";
  fs::create_directories(out);
  write_file(out / "config.json", "{}");
  EXPECT_NE(run().find("exists"), std::string::npos);
  options_.overwrite = true;
  EXPECT_NE(run().find("has no report.json that lists its files"), std::string::npos);
  EXPECT_EQ(read_file(out / "config.json"), "{}");
  fs::remove(out / "config.json");
  EXPECT_EQ(run(), "") << "an empty folder";

  write_file(out / "precious.txt", "data");
  EXPECT_NE(run().find("holds precious.txt, which tessera did not write"), std::string::npos);
  fs::rename(out / "precious.txt", dir_ / "precious.txt");
  fs::create_directories(out / "notes");
  EXPECT_NE(run().find("holds notes"), std::string::npos);
  fs::remove(out / "notes");
  options_.recipe = options_.recipe.with_weight(4, 128);
  EXPECT_EQ(run(), "");
  EXPECT_EQ(json::parse(read_file(out / "report.json"))["recipe"], options_.recipe.to_json());
}

TEST_F(QuantizerTest, KeepsFilesOfOthersInAnInterruptedRun) {
  kill_after(2);
  write_file(dir_ / "out.partial" / "precious.txt", "data");
  options_.resume = true;
  EXPECT_NE(run().find("out.partial: holds precious.txt"), std::string::npos);
  options_.resume = false;
  options_.overwrite = true;
  EXPECT_NE(run().find("out.partial: holds precious.txt"), std::string::npos);
  EXPECT_EQ(read_file(dir_ / "out.partial" / "precious.txt"), "data");
}

TEST_F(QuantizerTest, LeavesAPartialFolderOfOthersAlone) {
  fs::create_directories(dir_ / "out.partial");
  write_file(dir_ / "out.partial" / "config.json", "{}");
  for (const bool overwrite : {false, true}) {
    options_.overwrite = overwrite;
    EXPECT_NE(run().find("out.partial: not made by tessera"), std::string::npos);
  }
  EXPECT_EQ(read_file(dir_ / "out.partial" / "config.json"), "{}");
}

TEST_F(QuantizerTest, NeverTouchesTheSourceModel) {
  const fs::path model = copy_model();
  const auto source = files(model);
  options_.overwrite = true;
  const auto expect_refusal = [&](const fs::path& out) {
    options_.output_dir = out;
    EXPECT_NE(run().find("holds the source model"), std::string::npos) << out;
  };
  expect_refusal(model);
  expect_refusal(model / "");
  expect_refusal(dir_);
  fs::create_directory_symlink(model, dir_ / "link");
  expect_refusal(dir_ / "link");
  fs::create_directory_symlink(model, dir_ / "v.partial");
  expect_refusal(dir_ / "v");
  fs::remove(dir_ / "v.partial");
  fs::rename(model, dir_ / "v.partial");
  options_.model_dir = dir_ / "v.partial";
  expect_refusal(dir_ / "v");

  // A model whose files are links, as download caches have them.
  fs::create_directories(dir_ / "cache");
  for (const auto& [name, content] : source)
    fs::create_symlink(dir_ / "v.partial" / name, dir_ / "cache" / name);
  options_.model_dir = dir_ / "cache";
  expect_refusal(dir_ / "v");
  EXPECT_EQ(files(dir_ / "v.partial"), source);

  // Names beside the output belong to others.
  fs::rename(dir_ / "v.partial", dir_ / "v.replaced");
  options_.model_dir = dir_ / "v.replaced";
  options_.output_dir = dir_ / "v";
  EXPECT_EQ(run(), "");
  EXPECT_EQ(run(), "");
  EXPECT_EQ(files(dir_ / "v.replaced"), source);
}

/// Runs `other` in the middle of a run.
class Meanwhile : public Reporter {
 public:
  explicit Meanwhile(std::function<void()> other) : other_(std::move(other)) {}
  void progress(std::string_view, int64_t done, int64_t) override {
    if (done > 0) std::exchange(other_, [] {})();
  }

 private:
  std::function<void()> other_;
};

TEST_F(QuantizerTest, OneRunAtATimeWritesAnOutput) {
  ASSERT_EQ(run(), "");
  const auto straight = files(dir_ / "out");
  fs::remove_all(dir_ / "out");
  int refused = 0;
  Meanwhile others([&] {
    QuantizeOptions second = options_;
    for (const bool resume : {false, true}) {
      for (const bool overwrite : {false, true}) {
        second.resume = resume;
        second.overwrite = overwrite;
        try {
          quantize(second, reporter_);
        } catch (const Error& e) {
          const std::string owner = fmt::format("out.partial: process {} is working here", getpid());
          refused += std::string(e.what()).find(owner) != std::string::npos;
        }
      }
    }
  });
  EXPECT_EQ(run(others), "");
  EXPECT_EQ(refused, 4);
  auto written = files(dir_ / "out");
  EXPECT_EQ(written.erase("report.json"), 1u);
  for (const auto& [name, content] : written) EXPECT_EQ(content, straight.at(name)) << name;
}

TEST_F(QuantizerTest, DoesNotReplaceWhatAppearsMeanwhile) {
  Meanwhile user([&] {
    fs::create_directories(dir_ / "out");
    write_file(dir_ / "out" / "precious.txt", "data");
  });
  EXPECT_NE(run(user).find("out: exists by now"), std::string::npos);
  fs::rename(dir_ / "out" / "precious.txt", dir_ / "precious.txt");
  fs::remove(dir_ / "out");
  options_.resume = true;
  EXPECT_EQ(run(), "");
}

TEST_F(QuantizerTest, DamagedShardsAreFoundBeforeWorkIsDone) {
  kill_after(3);
  options_.resume = true;
  const auto expect_refusal = [&](const std::string& name) {
    const fs::path file = dir_ / "out.partial" / name;
    const std::string content = read_file(file);
    std::string damaged = content;
    damaged[damaged.size() / 2] ^= 1;
    write_file(file, damaged);
    EXPECT_NE(run().find(name + ": has changed since the run wrote it"), std::string::npos);
    write_file(file, content.substr(0, content.size() - 8));
    EXPECT_NE(run().find(name + ": has "), std::string::npos);
    fs::remove(file);
    EXPECT_NE(run().find(name + ": missing"), std::string::npos);
    write_file(file, content);
  };
  expect_refusal("model-00001-of-00007.safetensors");
  expect_refusal("model-00003-of-00007.safetensors");
  expect_refusal("streams-00003.safetensors");
  EXPECT_EQ(run(), "");
}

TEST_F(QuantizerTest, ResumingACompleteRunDoesNothing) {
  ASSERT_EQ(run(), "");
  const auto complete = files(dir_ / "out");
  options_.resume = true;
  EXPECT_EQ(run(), "");
  EXPECT_NE(reporter_.text.find("out is complete already"), std::string::npos) << reporter_.text;
  EXPECT_EQ(files(dir_ / "out"), complete);
  options_.recipe = options_.recipe.with_weight(4, 128);
  EXPECT_NE(run().find("out: exists"), std::string::npos) << "another result";
}

/// Sums of floats depend on how many threads share them.
TEST_F(QuantizerTest, ResumesWithTheSameNumberOfThreads) {
  const int threads = thread_count();
  kill_after(2);
  set_thread_count(threads + 1);
  options_.resume = true;
  EXPECT_NE(
      run().find(fmt::format("the number of threads differs from that of the interrupted run ({}, not {})",
                             threads, threads + 1)),
      std::string::npos);
  set_thread_count(threads);
  EXPECT_EQ(run(), "");
}

TEST_F(QuantizerTest, RowsRoundedWithoutCalibrationDoNotDependOnThreads) {
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

TEST_F(QuantizerTest, CalibrationChangesNothingWhereItIsNotNeeded) {
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

TEST_F(QuantizerTest, SamplesOnceAndOnlyWhenItMust) {
  const CalibrationSet given = options_.calibration;
  int samples = 0;
  options_.calibration.windows.clear();
  options_.calibration.sampler = {given.window_count(), given.window_tokens(), [&](Reporter&) {
                                    ++samples;
                                    return given.windows;
                                  }};
  EXPECT_EQ(run(), "");
  EXPECT_EQ(samples, 0) << "rounding to nearest needs none";

  options_.recipe = find_method("gptq");
  EXPECT_NE(run().find("exists"), std::string::npos);
  fs::remove_all(dir_ / "out");
  options_.recipe = options_.recipe.with_weight(4, 96);
  expect_error("legal for every layer");
  options_.recipe = find_method("gptq").with_setting("gptq.sparse=all").with_weight(4, 128);
  expect_error("2:4 sparse weights have one scale a row");
  options_.recipe = find_method("gptq");
  options_.recipe.passes = json::array({{{"pass", "smooth"}}});
  expect_error("no pass quantizes");
  options_.recipe = find_method("gptq");
  EXPECT_EQ(samples, 0) << "all that is checked comes first";

  kill_after(0);
  EXPECT_EQ(samples, 1);
  options_.resume = true;
  kill_after(2);
  EXPECT_EQ(run(), "");
  EXPECT_EQ(samples, 1) << "the interrupted run has left its samples";
  auto sampled = files(dir_ / "out");
  EXPECT_EQ(json::parse(sampled["report.json"])["calibration"], given.manifest);
  options_.resume = false;
  options_.calibration = given;
  options_.output_dir = dir_ / "straight";
  EXPECT_EQ(run(), "");
  auto straight = files(dir_ / "straight");
  sampled.erase("report.json");
  straight.erase("report.json");
  EXPECT_EQ(sampled, straight);
}

TEST_F(QuantizerTest, AsksForTheRoomThatItNeeds) {
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
    EXPECT_GE(plan.result + plan.largest_shard, written) << method;
    EXPECT_LE(static_cast<double>(plan.result), 1.2 * static_cast<double>(written)) << method;
    EXPECT_EQ(plan.streams, 2u * 2 * 4 * 48 * 256 * sizeof(float));
  }
}

/// The data of every shard, from its first byte to its last.
TEST_F(QuantizerTest, ShardsHaveNoHoles) {
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

TEST_F(QuantizerTest, RefusesBadModels) {
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

TEST_F(QuantizerTest, RefusesQuantizedModels) {
  ASSERT_EQ(run(), "");
  options_.model_dir = dir_ / "out";
  options_.output_dir = dir_ / "twice";
  EXPECT_NE(run().find("quantized already"), std::string::npos);
}

TEST_F(QuantizerTest, RefusesBadCalibration) {
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

TEST_F(QuantizerTest, RefusesBadOptions) {
  options_.device = "tpu";
  expect_error("device 'tpu' is not known");
  options_.device = "cuda:x";
  expect_error("device 'cuda:x' is not known");
  options_.device = "cpu";
  options_.recipe.passes = json::array({{{"pass", "alchemy"}}});
  expect_error("alchemy");
}

TEST_F(QuantizerTest, SaysWhenTheOutputCannotBeWritten) {
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

TEST_F(QuantizerTest, LeavesNothingHalfWrittenOnAFullDisk) {
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
