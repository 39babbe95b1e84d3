// Judged by ids that Hugging Face tokenizers computed, for the bundled model and those of the shared folder.
#include <gtest/gtest.h>

#include "tessera/base/atomic_output.h"
#include "tessera/base/hash.h"
#include "tessera/base/json_node.h"
#include "tessera/base/test_paths.h"
#include "tessera/text/tokenizer.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;
using nlohmann::json;

class Golden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    dir_ = fs::path(TESSERA_SOURCE_DIR) / "models" / GetParam();  // bundled
    if (!fs::exists(dir_)) dir_ = shared_dir() / "models" / GetParam();
    TESSERA_REQUIRE_FILE(dir_);
    tokenizer_ = Tokenizer::load(dir_);
  }

  fs::path dir_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(Golden, StringsBothWays) {
  const json golden = read_json(dir_ / "tokenizer_golden.json");
  ASSERT_EQ(golden["cases"].size(), 100u);
  for (const json& item : golden["cases"]) {
    const Ids ids = item["ids"];
    EXPECT_EQ(tokenizer_->encode(item["text"].get<std::string>(), false), ids) << item["text"];
    EXPECT_EQ(tokenizer_->decode(ids, false), item["decoded"].get<std::string>()) << item["text"];
  }
}

TEST_P(Golden, SpecialTokens) {
  const json with_bos = read_json(dir_ / "tokenizer_golden.json")["with_bos"];
  const Ids ids = tokenizer_->encode(with_bos["text"].get<std::string>(), true);
  EXPECT_EQ(ids, with_bos["ids"].get<Ids>());
  EXPECT_EQ(tokenizer_->decode(ids, true), with_bos["text"].get<std::string>());
  const json generation = read_json(dir_ / "generation_config.json");
  EXPECT_EQ(tokenizer_->bos_id(), generation["bos_token_id"].get<int32_t>());
  EXPECT_EQ(tokenizer_->eos_id(), generation["eos_token_id"].get<int32_t>());
  EXPECT_EQ(tokenizer_->vocab_size(), read_json(dir_ / "config.json")["vocab_size"].get<int32_t>());
}

/// A text of a megabyte in one call: with demo-llama, which has no pre-tokenizer, a single word.
void expect_whole_text(const Tokenizer& tokenizer, const fs::path& path, const json& golden) {
  const std::string text = read_file(path);
  ASSERT_EQ(sha256_hex(text), golden["file_sha256"].get<std::string>());
  const Ids ids = tokenizer.encode(text, true);
  EXPECT_EQ(ids.size(), golden["ids"].get<size_t>());
  const Ids first = golden["first_ids"];
  ASSERT_GE(ids.size(), first.size());
  EXPECT_EQ(Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(first.size())), first);
  EXPECT_EQ(sha256_hex(std::as_bytes(std::span(ids))), golden["ids_sha256_uint32_le"].get<std::string>());
}

TEST_P(Golden, WholeTexts) {
  TESSERA_REQUIRE_FILE(shared_dir() / "data" / "heldout.txt");
  const json golden = read_json(dir_ / "golden.json")["perplexity"];
  const fs::path heldout = shared_dir() / "data" / "heldout.txt";
  expect_whole_text(*tokenizer_, heldout, golden["heldout"]);
  expect_whole_text(*tokenizer_, shared_dir() / "data" / "wikitext-2" / "test.txt",
                    golden["wikitext-2-test"]);
  const std::string text = read_file(heldout);
  EXPECT_TRUE(tokenizer_->decode(tokenizer_->encode(text, false), false) == text);
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::Values("demo-llama", "lab-llama", "lab-opt"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tessera
