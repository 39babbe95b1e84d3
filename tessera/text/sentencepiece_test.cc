// Tests of tokenizer.model files, with a model that is trained here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <unistd.h>

#include <random>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/text/tokenizer.h"
#include "tessera/text/unicode.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

class SentencePiece : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new fs::path(fs::temp_directory_path() / fmt::format("tessera_sentencepiece_test_{}", ::getpid()));
    fs::create_directories(*dir_);
    std::string text;
    for (const char* word :
         {"stone", "mosaic", "tile", "small", "four", "sided", "pattern", "floor", "wall"}) {
      for (const char* other : {"of", "on", "the", "a", "and", "with"})
        text += fmt::format("{} {} {}\n", word, other, word);
    }
    write_file(*dir_ / "text", text);
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        fmt::format("--input={} --model_prefix={} --vocab_size=320 --model_type=bpe --byte_fallback=true "
                    "--normalization_rule_name=identity --remove_extra_whitespaces=false --minloglevel=2",
                    (*dir_ / "text").string(), (*dir_ / "tokenizer").string()));
    ASSERT_TRUE(status.ok()) << status.ToString();
    ASSERT_TRUE(model_.Load((*dir_ / "tokenizer.model").string()).ok());
  }
  static void TearDownTestSuite() {
    fs::remove_all(*dir_);
    delete dir_;
  }
  void TearDown() override {
    for (const char* file : {"tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"})
      fs::remove(*dir_ / file);
  }

  static Ids reference(const std::string& text) {
    Ids ids;
    EXPECT_TRUE(model_.Encode(text, &ids).ok());
    return ids;
  }

  static inline fs::path* dir_ = nullptr;
  static inline sentencepiece::SentencePieceProcessor model_;
};

TEST_F(SentencePiece, EncodesAsTheLibraryDoes) {
  const auto tokenizer = Tokenizer::load(*dir_);
  EXPECT_EQ(tokenizer->vocab_size(), 320);
  for (const std::string text : {"", " ", "small stone", "  tile\n\nwall ", "naïve 漢字 😀"}) {
    const Ids ids = tokenizer->encode(text, false);
    EXPECT_EQ(ids, reference(text));
    EXPECT_EQ(tokenizer->decode(ids, false), text);
  }
}

TEST_F(SentencePiece, SpecialTokens) {
  const auto tokenizer = Tokenizer::load(*dir_);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->token_id("</s>"), 2);
  EXPECT_EQ(tokenizer->token_id("unheard-of"), std::nullopt);
  Ids expected = reference("stone");
  expected.insert(expected.begin(), 1);
  EXPECT_EQ(tokenizer->encode("stone", true), expected);
  expected.push_back(2);
  EXPECT_EQ(tokenizer->encode("<s>stone</s>", false), expected);
  EXPECT_EQ(tokenizer->decode(expected, true), "stone");
  EXPECT_EQ(tokenizer->decode(Ids{-1, 320, 1 << 30}, false), "");
}

TEST_F(SentencePiece, ConfigurationOfHuggingFace) {
  write_file(*dir_ / "tokenizer_config.json",
             R"({"add_bos_token": false, "add_eos_token": true, "legacy": false,
      "eos_token": "<end>", "added_tokens_decoder": {"320": {"content": "<end>", "special": true},
                                                     "321": {"content": "<keep>", "special": false}}})");
  const auto tokenizer = Tokenizer::load(*dir_);
  EXPECT_EQ(tokenizer->vocab_size(), 322);
  EXPECT_EQ(tokenizer->eos_id(), 320);
  Ids expected = reference("stone");
  expected.push_back(320);
  EXPECT_EQ(tokenizer->encode("stone", true), expected);
  // Not legacy: no blank is put before what follows a special token.
  const Ids ids = tokenizer->encode("stone<keep>tile", false);
  EXPECT_EQ(tokenizer->decode(ids, true), "stone<keep>tile");
  fs::remove(*dir_ / "tokenizer_config.json");
  const auto legacy = Tokenizer::load(*dir_);
  EXPECT_EQ(legacy->decode(legacy->encode("stone</s>tile", false), false), "stone</s> tile");
}

TEST_F(SentencePiece, AddedTokensBesideTheModel) {
  write_file(*dir_ / "added_tokens.json", R"({"<|im_end|>": 321, "<|im_start|>": 320})");
  write_file(*dir_ / "special_tokens_map.json", R"({"pad_token": "[PAD]", "unk_token": "<unk>"})");
  const auto tokenizer = Tokenizer::load(*dir_);
  EXPECT_EQ(tokenizer->encode("<|im_start|><|im_end|>[PAD]<unk>", false), (Ids{320, 321, 322, 0}));
  EXPECT_EQ(tokenizer->decode(Ids{322, 320}, true), "<|im_start|>");
}

TEST_F(SentencePiece, BrokenFilesAreErrors) {
  const fs::path broken = *dir_ / "broken";
  fs::create_directories(broken);
  const std::string whole = read_file(*dir_ / "tokenizer.model");
  for (const std::string& bytes :
       {std::string(), std::string("not a model"), whole.substr(0, whole.size() / 2)}) {
    write_file(broken / "tokenizer.model", bytes);
    try {
      Tokenizer::load(broken);
      ADD_FAILURE() << bytes.size();
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), testing::HasSubstr("tokenizer.model"));
    }
  }
  write_file(broken / "tokenizer.model", whole);
  write_file(broken / "tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "<x>"}}})");
  EXPECT_THROW(Tokenizer::load(broken), Error);
}

/// A stranger's bytes: refused, or a tokenizer whose texts are valid UTF-8. Also of a model whose normalizer
/// has a map of characters, into which every tenth change goes.
TEST_F(SentencePiece, HostileModelsAreRefusedOrSurvived) {
  const fs::path hostile = *dir_ / "hostile";
  fs::create_directories(hostile);
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      fmt::format("--input={} --model_prefix={} --vocab_size=320 --model_type=unigram --byte_fallback=true "
                  "--hard_vocab_limit=false --normalization_rule_name=nmt_nfkc --minloglevel=2",
                  (*dir_ / "text").string(), (hostile / "mapped").string()));
  ASSERT_TRUE(status.ok()) << status.ToString();
  std::mt19937 random(5);
  for (const fs::path& model : {*dir_ / "tokenizer.model", hostile / "mapped.model"}) {
    const std::string whole = read_file(model);
    int loaded = 0;
    for (int round = 0; round < 200; ++round) {
      std::string bytes = whole;
      bytes[random() % bytes.size()] = static_cast<char>(random());
      write_file(hostile / "tokenizer.model", round == 0 ? whole : bytes);
      try {
        const auto tokenizer = Tokenizer::load(hostile);
        Ids ids = tokenizer->encode("small stone\xff on the naïve ﬁ ① 漢字 </s> floor", true);
        for (int32_t id = 0; id < tokenizer->vocab_size(); id += 7) ids.push_back(id);
        EXPECT_TRUE(is_valid_utf8(tokenizer->decode(ids, false)));
        ++loaded;
      } catch (const Error&) {
        EXPECT_NE(round, 0) << "the model itself";
      }
    }
    EXPECT_GT(loaded, 20) << model;
  }
}

}  // namespace
}  // namespace tessera
