// A run on the demonstration model, for the tests of runs. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/quant/run/quantizer.h"

namespace tessera {

/// Thrown by a reporter in the middle of a run; no handler of the run catches it, as if the process died.
struct Killed {};

class KillAfter : public Reporter {
 public:
  explicit KillAfter(double blocks) : blocks_(blocks) {}
  void progress(std::string_view task, int64_t done, int64_t total) override {
    if (!task.starts_with("quantizing")) return;
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

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::path(testing::TempDir()) /
           testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    options_.model_dir = demo_;
    options_.output_dir = dir_ / "out";
    options_.recipe = find_method("rtn");
    options_.calibration = windows(0);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

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
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out.partial"));
  }

  /// A copy of the demonstration model that a test may damage.
  std::filesystem::path copy_model() {
    const std::filesystem::path copy = dir_ / "model";
    std::filesystem::create_directories(copy);
    for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
      std::filesystem::copy_file(demo_ / name, copy / name);
    }
    options_.model_dir = copy;
    return copy;
  }

  void kill_after(double blocks) {
    KillAfter killer(blocks);
    EXPECT_THROW(quantize(options_, killer), Killed);
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
    EXPECT_TRUE(std::filesystem::exists(dir_ / "out.partial" / "journal.json"));
  }

  static std::map<std::string, std::string> files(const std::filesystem::path& dir) {
    std::map<std::string, std::string> contents;
    for (const auto& entry : std::filesystem::directory_iterator(dir)) {
      contents[entry.path().filename().string()] = read_file(entry.path());
    }
    return contents;
  }

  const std::filesystem::path demo_ = std::filesystem::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";
  std::filesystem::path dir_;
  QuantizeOptions options_;
  Notes reporter_;
};

}  // namespace tessera
