// Interrupted runs, and how they go on.
#include <cstring>
#include <fstream>

#include "tessera/base/parallel.h"
#include "tessera/quant/run/owned_files.h"
#include "tessera/quant/run/test_run.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

TEST_F(RunTest, ResumesToTheSameBytes) {
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

class ResumeTest : public RunTest {
 protected:
  /// Runs straight and returns the report; then kills a second run after `blocks` and resumes it, which is to
  /// find `finished` blocks and give the same bytes.
  json run_killed_after(double blocks, int finished) {
    EXPECT_EQ(run(), "");
    auto straight = files(dir_ / "out");
    json report = json::parse(straight["report.json"]);
    fs::rename(dir_ / "out", dir_ / "straight");
    kill_after(blocks);
    EXPECT_TRUE(fs::exists(dir_ / "out.partial" / streams_name(finished)));
    options_.resume = true;
    EXPECT_EQ(run(), "");
    auto resumed = files(dir_ / "out");
    EXPECT_NE(reporter_.text.find(fmt::format("resuming after {} of 6 blocks", finished)), std::string::npos)
        << reporter_.text;
    resumed.erase("report.json");
    straight.erase("report.json");
    EXPECT_EQ(resumed, straight);
    return report;
  }
};

TEST_F(ResumeTest, TunedBlocks) {
  options_.recipe.passes.push_back({{"pass", "tune"}, {"steps", 4}, {"batch", 2}, {"learning_rate", 0.02}});
  const json report = run_killed_after(3.5, 3);
  EXPECT_TRUE(report["blocks"][0]["passes"]["tune"]["kept"].get<bool>());
}

/// Killed when the blocks are finished: the training is repeated.
TEST_F(ResumeTest, DistilledModels) {
  options_.recipe.passes.push_back({{"pass", "distill"}, {"steps", 4}, {"learning_rate", 0.0005}});
  const json report = run_killed_after(6, 6);
  EXPECT_TRUE(report["whole_model"]["distill"]["kept"].get<bool>());
}

/// The resumed run looks at the float model again.
TEST_F(ResumeTest, RotationsOntoMainDirections) {
  options_.recipe.passes =
      json::array({{{"pass", "rotate"}, {"matrix", "principal"}, {"apart", 16}}, {{"pass", "rtn"}}});
  run_killed_after(3.5, 3);
}

TEST_F(ResumeTest, GroupsOfBlocks) {
  options_.recipe.passes =
      json::array({{{"pass", "reassemble"}, {"tokens", 48}, {"candidates", 2}},
                   {{"pass", "correct"}, {"epochs", 1}, {"blocks", 4}, {"final_norm", true}},
                   {{"pass", "rtn"}}});
  options_.recipe.scheme = {{4, 0, false}, {4, false, true}};
  const json report = run_killed_after(3.2, 4);  // of the two groups of the progress, in the second
  EXPECT_EQ(report["blocks"].size(), 6u);
  EXPECT_EQ(report["blocks"][3]["passes"]["correct"]["blocks"], 4);
  EXPECT_EQ(report["blocks"][5]["passes"]["correct"]["blocks"], 2) << "the last group is shorter";
  EXPECT_FALSE(report["blocks"][3]["passes"]["correct"].contains("final_norm"));
  EXPECT_GT(report["blocks"][5]["passes"]["correct"]["final_norm"]["error_before"].get<double>(), 0);
}

TEST_F(RunTest, ResumeRefusesAnotherModelTextOrRecipe) {
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

TEST_F(RunTest, AsksBeforeItDiscardsAnInterruptedRun) {
  kill_after(1);
  EXPECT_NE(run().find("continue it with --resume or discard it with --overwrite"), std::string::npos);
  options_.overwrite = true;
  EXPECT_EQ(run(), "");
}

TEST_F(RunTest, ResumeAndOverwriteStartAfreshWhereTheRunIsAnother) {
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

TEST_F(RunTest, ResumeWithNothingThereStarts) {
  options_.resume = true;
  EXPECT_EQ(run(), "");
  EXPECT_NE(reporter_.text.find("nothing to resume"), std::string::npos);
}

TEST_F(RunTest, DamagedShardsAreFoundBeforeWorkIsDone) {
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

TEST_F(RunTest, ResumingACompleteRunDoesNothing) {
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
TEST_F(RunTest, ResumesWithTheSameNumberOfThreads) {
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

TEST_F(RunTest, SamplesOnceAndOnlyWhenItMust) {
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
  expect_error("2:4 sparse weights have one scale an output");
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

}  // namespace
}  // namespace tessera
