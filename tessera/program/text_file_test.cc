// Tests of reading texts.
#include "tessera/program/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class TextFile : public testing::Test {
 protected:
  ~TextFile() override { fs::remove(path_); }

  std::vector<int32_t> ids(const std::string& text, int64_t wanted = 0) {
    write_file(path_, text);
    return encode_file(*tokenizer_, path_.string(), wanted);
  }
  std::string error_of(const std::string& text) {
    try {
      ids(text);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  const fs::path path_ = fs::temp_directory_path() / fmt::format("tessera_text_file_{}", ::getpid());
  const std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::load(fs::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama");
};

TEST_F(TextFile, OnlyUtf8IsText) {
  EXPECT_THAT(error_of(""), HasSubstr("is empty"));
  EXPECT_THAT(error_of("caf\xe9 and th\xe9"), HasSubstr("2 bad sequences, the first at byte 3"));
  EXPECT_THAT(error_of(std::string("\xff\xfeT\0h\0", 6)), HasSubstr("not UTF-8 text"));
  EXPECT_THAT(error_of(std::string("T\0h\0e\0", 6)), HasSubstr("a NUL at byte 1"));
  EXPECT_EQ(error_of("café 漢字 😀"), "");
}

/// Of a long text no more is read than is wanted, and the ids are those of the whole.
TEST_F(TextFile, TheBeginningIsThatOfTheWhole) {
  for (const char* end : {"\n", ". "}) {
    std::string text;
    for (int i = 0; text.size() < 3'000'000; ++i)
      text += fmt::format("Part {} of the café's story{}", i, end);
    const std::vector<int32_t> all = ids(text);
    for (const int64_t wanted : {1, 4096, 200'000}) {
      const std::vector<int32_t> first = ids(text, wanted);
      ASSERT_EQ(std::ssize(first), wanted);
      EXPECT_TRUE(std::equal(first.begin(), first.end(), all.begin())) << wanted;
    }
    EXPECT_EQ(ids(text, std::ssize(all) + 1), all) << "the file has no more";
    EXPECT_NO_THROW(ids(text + "\xff", 4096)) << "what is not read is not judged";
  }
}

}  // namespace
}  // namespace tessera
