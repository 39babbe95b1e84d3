// A conversion that dies at any of its file operations leaves no model in OUT, and the same command makes it.
#include <gtest/gtest.h>

#include <map>

#include "dying_process.h"
#include "tessera/base/atomic_output.h"
#include "tessera/convert/conversion.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class ConvertCrashTest : public testing::Test {
 protected:
  ConvertCrashTest() { fs::create_directories(dir_); }
  ~ConvertCrashTest() override { fs::remove_all(dir_); }

  int run(int64_t last = 0) {
    const auto convert = [&] {
      Reporter silent;
      const Conversion conversion({.in = fs::path(TESSERA_SOURCE_DIR) / "tests/golden/foreign/gptq-g32",
                                   .out = dir_ / "out",
                                   .target = "awq"});
      conversion.write(conversion.survey(silent), silent);
    };
    return process_.run(convert, last);
  }
  std::map<std::string, std::string> output() const {
    std::map<std::string, std::string> contents;
    for (const auto& entry : fs::directory_iterator(dir_ / "out"))
      contents[entry.path().filename().string()] = read_file(entry.path());
    return contents;
  }

  const fs::path dir_ =
      fs::canonical(fs::temp_directory_path()) / ("tessera_convert_crash_" + std::to_string(getpid()));
  DyingProcess process_{dir_ / "out"};
};

TEST_F(ConvertCrashTest, TheNextRunReplacesWhatIsLeft) {
  ASSERT_EQ(run(), 0);
  const auto straight = output();
  EXPECT_FALSE(straight.contains("tessera.lock"));
  const int64_t operations = process_.operations();
  EXPECT_GT(operations, 20);
  for (int64_t last = 1; last <= operations; ++last) {
    fs::remove_all(dir_ / "out");
    ASSERT_EQ(run(last), kCrashed) << "operation " << last;
    if (fs::exists(dir_ / "out")) {  // it died behind the rename: all is there
      auto whole = output();
      std::erase_if(whole, [](const auto& file) { return file.first.starts_with("tessera."); });
      ASSERT_EQ(whole, straight) << "operation " << last;
      continue;
    }
    ASSERT_EQ(run(), 0) << "operation " << last << " of " << operations;
    ASSERT_EQ(output(), straight) << "operation " << last << " of " << operations;
    ASSERT_FALSE(fs::exists(dir_ / "out.partial")) << "operation " << last;
  }
}

}  // namespace
}  // namespace tessera
