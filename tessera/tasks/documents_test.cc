// Data sets as they lie on disk.
#include "tessera/tasks/documents.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>

#include "tessera/base/atomic_output.h"
#include "tessera/base/test_error.h"
#include "tessera/tasks/parquet/parquet.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "parquet";

class DocumentsTest : public testing::Test {
 protected:
  DocumentsTest() { fs::create_directories(dir_); }
  ~DocumentsTest() override { fs::remove_all(dir_); }

  fs::path write(const std::string& name, std::string_view text) const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << text;
    return dir_ / name;
  }

  const fs::path dir_ = fs::path(testing::TempDir()) / fmt::format("documents-{}", getpid());
};

TEST_F(DocumentsTest, ParquetOfEveryKindHasTheRowsThatWereWritten) {
  const auto expected = Document::parse(read_file(kGolden / "rows.json")).get<std::vector<Document>>();
  ASSERT_EQ(expected.size(), 40u);
  for (const char* name : {"snappy", "plain", "zstd-v2", "gzip-pages"}) {
    EXPECT_EQ(read_documents(kGolden / fmt::format("{}.parquet", name)), expected) << name;
  }
}

TEST_F(DocumentsTest, ParquetColumnsWithoutValuesSignsOrAMeaningHere) {
  const std::vector<Document> expected{{{"none", nullptr},
                                        {"empty", Document::array()},
                                        {"u32", 0},
                                        {"u64", 7},
                                        {"span", {{"name", "a"}}},
                                        {"last", "x"}},
                                       {{"none", nullptr},
                                        {"empty", Document::array()},
                                        {"u32", 4294967295u},
                                        {"u64", UINT64_MAX},
                                        {"span", nullptr},
                                        {"last", "y"}}};
  EXPECT_EQ(read_documents(kGolden / "types.parquet"), expected);
  EXPECT_THROW(read_documents(write("empty.parquet", "")), Error);
}

TEST_F(DocumentsTest, DamagedParquetIsRefusedOrRead) {
  for (const char* name : {"snappy", "plain", "zstd-v2", "gzip-pages"}) {
    const std::string good = read_file(kGolden / fmt::format("{}.parquet", name));
    for (size_t size = 0; size < good.size(); size += 37) {
      EXPECT_THROW(read_parquet(write("cut.parquet", good.substr(0, size))), Error) << name << " " << size;
    }
    int refused = 0;
    for (size_t i = 4; i < good.size() - 4; i += 23) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ (1 << i % 8));
      try {
        read_parquet(write("changed.parquet", changed));
      } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("changed.parquet"), std::string::npos);
        ++refused;
      }
    }
    EXPECT_GT(refused, 20) << name;
  }
}

TEST_F(DocumentsTest, LinesAndArrays) {
  const std::vector<Document> expected = {{{"a", 1}}, {{"a", "zwei"}}};
  EXPECT_EQ(read_documents(write("lines.jsonl", "{\"a\": 1}\r\n\n{\"a\": \"zwei\"}")), expected);
  EXPECT_EQ(read_documents(write("array.json", "\xEF\xBB\xBF [{\"a\": 1}, {\"a\": \"zwei\"}]\n")), expected);
  const fs::path broken = write("broken.jsonl", "{\"a\": 1}\n{\"a\": \n");
  EXPECT_NE(error_of([&] { read_documents(broken); }).find("broken.jsonl: line 2"), std::string::npos);
  const fs::path number = write("number.jsonl", "{\"a\": 1}\n7\n");
  EXPECT_NE(error_of([&] { read_documents(number); }).find("entry 2 is no object"), std::string::npos);
}

TEST_F(DocumentsTest, AllFilesOfTheFirstSplitThatThereIs) {
  for (const char* name : {"data/validation-00001-of-00002.parquet", "data/validation-00000-of-00002.parquet",
                           "data/train-00000-of-00001.parquet", "Task_Val.jsonl", "invalid.json", "README.md",
                           "validation.txt"}) {
    write(name, "");
  }
  EXPECT_EQ(split_files(dir_, {"valid", "validation", "val"}),
            (std::vector<fs::path>{dir_ / "data/validation-00000-of-00002.parquet",
                                   dir_ / "data/validation-00001-of-00002.parquet"}));
  EXPECT_EQ(split_files(dir_, {"val"}), std::vector<fs::path>{dir_ / "Task_Val.jsonl"});
  write("converted/test/0000.parquet", "");
  EXPECT_EQ(split_files(dir_, {"TEST"}), std::vector<fs::path>{dir_ / "converted/test/0000.parquet"});
  const std::string none = error_of([&] { split_files(dir_, {"text", "dev"}); });
  EXPECT_NE(none.find("the word text or dev"), std::string::npos) << none;
}

}  // namespace
}  // namespace tessera
