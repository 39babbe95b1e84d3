// Where a run may write, and whose files it leaves alone.
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>

#include "tessera/base/atomic_output.h"
#include "tessera/quant/run/test_run.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

TEST_F(RunTest, ReplacesOnlyWhatItWroteAndOnlyWhenTold) {
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

TEST_F(RunTest, KeepsFilesOfOthersInAnInterruptedRun) {
  kill_after(2);
  write_file(dir_ / "out.partial" / "precious.txt", "data");
  options_.resume = true;
  EXPECT_NE(run().find("out.partial: holds precious.txt"), std::string::npos);
  options_.resume = false;
  options_.overwrite = true;
  EXPECT_NE(run().find("out.partial: holds precious.txt"), std::string::npos);
  EXPECT_EQ(read_file(dir_ / "out.partial" / "precious.txt"), "data");
}

TEST_F(RunTest, LeavesAPartialFolderOfOthersAlone) {
  fs::create_directories(dir_ / "out.partial");
  write_file(dir_ / "out.partial" / "config.json", "{}");
  for (const bool overwrite : {false, true}) {
    options_.overwrite = overwrite;
    EXPECT_NE(run().find("out.partial: not made by tessera"), std::string::npos);
  }
  EXPECT_EQ(read_file(dir_ / "out.partial" / "config.json"), "{}");
}

TEST_F(RunTest, NeverTouchesTheSourceModel) {
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

TEST_F(RunTest, OneRunAtATimeWritesAnOutput) {
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

TEST_F(RunTest, DoesNotReplaceWhatAppearsMeanwhile) {
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

}  // namespace
}  // namespace tessera
