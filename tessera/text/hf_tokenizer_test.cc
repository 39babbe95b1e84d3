// Tests of loading a tokenizer folder: the special tokens, and hostile files.
#include "tessera/text/hf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

#include "tessera/base/atomic_output.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Ids = std::vector<int32_t>;
using testing::HasSubstr;

json small_tokenizer() {
  return json::parse(R"({
    "added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 6, "content": "<x>", "special": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s"}, "behavior": "Isolated", "invert": false},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "B", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "E", "type_id": 0}}],
      "special_tokens": {"B": {"id": "B", "ids": [0], "tokens": ["<s>"]}, "E": {"id": "E", "ids": [0, 6]}}},
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "unk_token": "<s>", "vocab": {"<s>": 0, "a": 1, "b": 2, " ": 3, "ab": 4},
              "merges": ["a b"]}})");
}

class TokenizerFolder : public testing::Test {
 protected:
  TokenizerFolder() : dir_(fs::temp_directory_path() / fmt::format("tessera_tokenizer_test_{}", ::getpid())) {
    fs::create_directories(dir_);
  }
  ~TokenizerFolder() override { fs::remove_all(dir_); }

  std::unique_ptr<Tokenizer> load(const json& tokenizer) {
    write_file(dir_ / "tokenizer.json", tokenizer.dump());
    return Tokenizer::load(dir_);
  }
  std::string error_of(const json& tokenizer) {
    try {
      load(tokenizer);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  fs::path dir_;
};

TEST_F(TokenizerFolder, EncodesAndDecodes) {
  const auto tokenizer = load(small_tokenizer());
  EXPECT_EQ(tokenizer->encode("ab b<x>?", false), (Ids{4, 3, 2, 6, 0}));
  EXPECT_EQ(tokenizer->encode("a", true), (Ids{0, 1, 0, 6}));
  EXPECT_EQ(tokenizer->encode("", true), (Ids{0, 0, 6}));
  EXPECT_EQ(tokenizer->decode(Ids{0, 4, 6}, false), "<s>ab<x>");
  EXPECT_EQ(tokenizer->decode(Ids{0, 4, 6}, true), "ab<x>");
  EXPECT_EQ(tokenizer->decode(Ids{-1, 4, 5, 7, INT32_MAX}, false), "ab");  // 5 is a gap in the vocabulary
  EXPECT_EQ(tokenizer->vocab_size(), 7);
  EXPECT_EQ(tokenizer->token_id("<x>"), 6);
  EXPECT_EQ(tokenizer->token_id("ab"), 4);
  EXPECT_EQ(tokenizer->token_id("?"), std::nullopt);
}

TEST_F(TokenizerFolder, InvalidUtf8IsReadAsReplacementCharacters) {
  json document = small_tokenizer();
  document["model"]["vocab"]["\uFFFD"] = 5;
  EXPECT_EQ(load(document)->encode("a\xFF\xE5\x8F"
                                   "b",
                                   false),
            (Ids{1, 5, 5, 2}));
}

TEST_F(TokenizerFolder, SpecialTokensOfTheConfiguration) {
  EXPECT_EQ(load(small_tokenizer())->bos_id(), std::nullopt);
  write_file(dir_ / "tokenizer_config.json", R"({"bos_token": {"content": "<s>", "lstrip": false}})");
  write_file(dir_ / "special_tokens_map.json", R"({"bos_token": "a", "eos_token": "<x>"})");
  EXPECT_EQ(load(small_tokenizer())->bos_id(), 0);
  EXPECT_EQ(load(small_tokenizer())->eos_id(), 6);
  write_file(dir_ / "tokenizer_config.json", R"({"bos_token": null, "eos_token": "<other>"})");
  EXPECT_EQ(load(small_tokenizer())->bos_id(), 1);
  EXPECT_EQ(load(small_tokenizer())->eos_id(), 7) << "a token that no vocabulary has gets the next id";
  write_file(dir_ / "tokenizer_config.json", R"({"bos_token": 7})");
  EXPECT_THAT(error_of(small_tokenizer()), HasSubstr("tokenizer_config.json: bos_token: expected an object"));
  write_file(dir_ / "tokenizer_config.json", R"({"bos_)");
  EXPECT_THAT(error_of(small_tokenizer()), HasSubstr("tokenizer_config.json: not valid JSON"));
}

/// Wherever Hugging Face's files name a token it is found in the text.
TEST_F(TokenizerFolder, AddedTokensOfTheOtherFiles) {
  write_file(dir_ / "tokenizer_config.json",
             R"({"added_tokens_decoder": {"9": {"content": "<nine>", "special": true},
                                          "8": {"content": "<eight>", "special": false}},
                 "unk_token": "<s>", "pad_token": {"content": "<pad>"}, "additional_special_tokens": ["b"]})");
  write_file(dir_ / "added_tokens.json", R"({"<ten>": 10})");
  write_file(dir_ / "special_tokens_map.json", R"({"pad_token": "<pad>", "cls_token": "<cls>"})");
  const auto tokenizer = load(small_tokenizer());
  EXPECT_EQ(tokenizer->encode("ab<nine><eight>b<ten><pad><cls><s>", false),
            (Ids{1, 2, 9, 8, 2, 10, 11, 12, 0}));
  EXPECT_EQ(tokenizer->decode(Ids{9, 8, 2, 10, 11, 1}, true), "<eight><ten>a");
  EXPECT_EQ(tokenizer->vocab_size(), 13);
  EXPECT_EQ(tokenizer->special_id("<nine>"), 9);
  EXPECT_EQ(tokenizer->special_id("<eight>"), std::nullopt) << "is part of the text";
  EXPECT_EQ(tokenizer->special_id("<other>"), std::nullopt);
  write_file(dir_ / "added_tokens.json", R"({"<ten>": -10})");
  EXPECT_THAT(error_of(small_tokenizer()), HasSubstr("added_tokens.json: <ten>: -10 is outside"));
}

TEST_F(TokenizerFolder, SaysWhetherItAddsABos) {
  write_file(dir_ / "tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_TRUE(load(small_tokenizer())->adds_bos());
  json none = small_tokenizer();
  none["post_processor"] = nullptr;
  EXPECT_FALSE(load(none)->adds_bos());
}

TEST_F(TokenizerFolder, PostProcessorSequence) {
  json document = small_tokenizer();
  json& processor = document["post_processor"];
  processor = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, processor}}};
  EXPECT_EQ(load(document)->encode("a", true), (Ids{0, 1, 0, 6}));
  processor["processors"].push_back(processor["processors"][1]);
  EXPECT_THAT(error_of(document), HasSubstr("post_processor.processors[2]: only one stage may add"));
  processor = nullptr;
  EXPECT_EQ(load(document)->encode("a", true), Ids{1});
}

TEST_F(TokenizerFolder, ErrorsNameFileAndPlace) {
  const auto with = [&](const char* pointer, const json& value) {
    json document = small_tokenizer();
    document[json::json_pointer(pointer)] = value;
    std::string error = error_of(document);
    EXPECT_THAT(error, testing::StartsWith((dir_ / "tokenizer.json: ").string()));
    EXPECT_EQ(error.find('\n'), std::string::npos);
    return error;
  };
  EXPECT_THAT(with("/normalizer", {{"type", "Precompiled"}}),
              HasSubstr("normalizer: components of type 'Precompiled'"));
  EXPECT_THAT(with("/pre_tokenizer/pattern/Regex", "(a"),
              HasSubstr("pre_tokenizer.pattern.Regex: regex '(a' does"));
  EXPECT_THAT(with("/decoder", {{"type", "CTC"}}), HasSubstr("decoder: components of type 'CTC'"));
  EXPECT_THAT(with("/post_processor", {{"type", "Roberta"}}),
              HasSubstr("post_processor: components of type"));
  EXPECT_THAT(with("/post_processor/special_tokens/B/ids/0", 7),
              HasSubstr("special_tokens.B.ids[0]: 7 is outside 0..6"));
  EXPECT_THAT(with("/post_processor/special_tokens", json::object()),
              HasSubstr("special_tokens.B: expected an object, found nothing"));
  EXPECT_THAT(with("/post_processor/single", json::array()), HasSubstr("does not contain it"));
  EXPECT_THAT(with("/model/vocab/\n", "x"), HasSubstr("model.vocab.\\n: expected an integer"));
  EXPECT_THAT(with("/pre_tokenizer/pattern/Regex", "(\n"), HasSubstr("regex '(\\n' does not compile"));
  EXPECT_THAT(with("/added_tokens/1/id", -6), HasSubstr("added_tokens[1].id: -6 is outside"));
  EXPECT_THAT(with("/added_tokens/0/id", 5),
              HasSubstr("added_tokens[0]: '<s>' has id 5 here and 0 in the vocabulary"));
  EXPECT_THAT(with("/added_tokens", {{"id", 1}}), HasSubstr("added_tokens: expected an array, found object"));
  EXPECT_THAT(with("/model", nullptr), HasSubstr("model: expected an object, found nothing"));
}

void load_and_use(const std::string& text) {
  const json document = parse_json(text, "tokenizer.json");
  const HfTokenizer tokenizer(JsonNode(document, "tokenizer.json"));
  tokenizer.decode(tokenizer.encode("ab <s> <x>é", true), true);
}

TEST(HostileTokenizer, TruncatedFileIsAnError) {
  const std::string whole = small_tokenizer().dump();
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(load_and_use(whole.substr(0, size)), Error) << size;
  }
}

TEST(HostileTokenizer, CorruptFilesLoadOrAreErrors) {
  const std::string whole = small_tokenizer().dump();
  constexpr std::string_view kSpice = "\"{}[],:0-9nulltrue \\\xFF";
  std::mt19937 random(3);
  int loaded = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text = whole;
    for (int i = 0; i < 2; ++i) text[random() % text.size()] = kSpice[random() % kSpice.size()];
    try {
      load_and_use(text);
      ++loaded;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, 2000);
}

TEST_F(TokenizerFolder, EmptyFolderIsAnError) {
  try {
    Tokenizer::load(dir_);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("neither tokenizer.json nor tokenizer.model"));
  }
}

}  // namespace
}  // namespace tessera
