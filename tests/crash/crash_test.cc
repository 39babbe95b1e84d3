// A run that dies at any of its file operations is resumed, by the same command with --resume, to the same
// bytes. Every run is a child of a process that starts no threads, since those do not survive a fork.
#include <gtest/gtest.h>

#include <map>

#include "dying_process.h"
#include "tessera/model/test_llama.h"
#include "tessera/quant/run/quantizer.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class CrashTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(dir_);
    TestLlama().write(dir_ / "model");
    write_file(dir_ / "model" / "tokenizer.json", "{}");
    options_.model_dir = dir_ / "model";
    options_.output_dir = dir_ / "out";
    options_.recipe = find_method("rtn").with_setting("rtn.clip=weighted");
    options_.calibration.sampler = {
        3, 8, [](Reporter&) {
          return TokenWindows{{1, 2, 3, 4, 5, 6, 7, 8}, {8, 7, 6, 5, 4, 3, 2, 1}, {9, 8, 9, 8, 9, 8, 9, 8}};
        }};
  }
  void TearDown() override { fs::remove_all(dir_); }

  int run(const QuantizeOptions& options, int64_t last = 0) {
    const auto action = [&] {
      Reporter silent;
      quantize(options, silent);
    };
    return process_.run(action, last);
  }

  void clear_output() {
    fs::remove_all(dir_ / "out");
    fs::remove_all(dir_ / "out.partial");
  }

  /// All files of the output but the report, which holds times.
  std::map<std::string, std::string> output() {
    std::map<std::string, std::string> contents;
    for (const auto& entry : fs::directory_iterator(dir_ / "out")) {
      const std::string name = entry.path().filename().string();
      if (name != "report.json") contents[name] = entry.is_directory() ? "a folder" : read_file(entry.path());
    }
    return contents;
  }

  /// Dies everywhere, with `before` as the output of an earlier run where it is not empty.
  void die_everywhere(const fs::path& before) {
    const auto reset = [&] {
      clear_output();
      if (!before.empty()) fs::copy(before, dir_ / "out");
    };
    reset();
    ASSERT_EQ(run(options_), 0);
    const auto straight = output();
    const int64_t operations = process_.operations();
    for (const int64_t& count : process_.counts())
      EXPECT_GT(count, 0) << "kind " << &count - process_.counts().data();
    QuantizeOptions resumed = options_;
    resumed.resume = true;
    for (int64_t last = 1; last <= operations; ++last) {
      reset();
      ASSERT_EQ(run(options_, last), kCrashed) << "operation " << last;
      ASSERT_EQ(run(resumed), 0) << "operation " << last << " of " << operations;
      ASSERT_EQ(output(), straight) << "operation " << last << " of " << operations;
      ASSERT_FALSE(fs::exists(dir_ / "out.partial")) << "operation " << last;
    }
  }

  const fs::path dir_ =
      fs::canonical(fs::temp_directory_path()) / ("tessera_crash_" + std::to_string(getpid()));
  DyingProcess process_{dir_ / "out"};
  QuantizeOptions options_;
};

TEST_F(CrashTest, AFirstRunResumesFromEveryOperation) {
  die_everywhere("");
}

TEST_F(CrashTest, ADistilledRunResumesFromEveryOperation) {
  options_.recipe.passes.push_back({{"pass", "distill"}, {"steps", 2}, {"learning_rate", 1e-5}});
  die_everywhere("");
}

TEST_F(CrashTest, ARunThatReplacesResumesFromEveryOperation) {
  QuantizeOptions earlier = options_;
  earlier.recipe = find_method("rtn").with_weight(8, 0);
  ASSERT_EQ(run(earlier), 0);
  fs::rename(dir_ / "out", dir_ / "earlier");
  options_.overwrite = true;
  die_everywhere(dir_ / "earlier");
}

}  // namespace
}  // namespace tessera
