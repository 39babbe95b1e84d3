// Tokenizers of GGUF files against those that they were made from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "tessera/base/error.h"
#include "tessera/base/json_node.h"
#include "tessera/base/test_paths.h"
#include "tessera/source/model_files.h"
#include "tessera/source/test_gguf_model.h"
#include "tessera/text/tokenizer.h"
#include "tessera/text/unicode.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;
using nlohmann::json;
using testing::HasSubstr;

/// 10,020 lines of words in 30 scripts, with blanks, digits and punctuation between them.
std::vector<std::string> lines_in_thirty_scripts() {
  struct Letters {
    char32_t first, last;
  };
  constexpr Letters kScripts[] = {
      {'a', 'z'},       {0xc0, 0x24f},      // Latin, plain and with marks
      {0x370, 0x3ff},   {0x400, 0x4ff},     // Greek, Cyrillic
      {0x531, 0x586},   {0x5d0, 0x5ea},     // Armenian, Hebrew
      {0x620, 0x64a},   {0x710, 0x74a},     // Arabic, Syriac
      {0x905, 0x94d},   {0x985, 0x9cd},     // Devanagari, Bengali
      {0xa05, 0xa4d},   {0xa85, 0xacd},     // Gurmukhi, Gujarati
      {0xb05, 0xb4d},   {0xb85, 0xbcd},     // Oriya, Tamil
      {0xc05, 0xc4d},   {0xc85, 0xccd},     // Telugu, Kannada
      {0xd05, 0xd4d},   {0xd85, 0xdca},     // Malayalam, Sinhala
      {0xe01, 0xe4e},   {0xe81, 0xece},     // Thai, Lao
      {0xf40, 0xf84},   {0x1000, 0x103a},   // Tibetan, Myanmar
      {0x10d0, 0x10ff}, {0xac00, 0xd7a3},   // Georgian, Hangul
      {0x1200, 0x137c}, {0x13a0, 0x13f5},   // Ethiopic, Cherokee
      {0x1780, 0x17d3}, {0x3041, 0x30ff},   // Khmer, Kana
      {0x4e00, 0x9fff}, {0x1f300, 0x1f64f}  // Han, emoji
  };
  static_assert(std::size(kScripts) == 30);
  constexpr const char* kBetween[] = {" ",  " ",     " ",   "  ", ", ",     ". ",     "\n",
                                      " 7", "2026 ", "'s ", "-",  "\u3002", "\u00a0", "!?"};
  std::mt19937 random(3);
  std::vector<std::string> lines;
  for (const Letters& script : kScripts) {
    for (int line = 0; line < 334; ++line) {
      std::string text;
      for (size_t word = 0; word < 1 + random() % 8; ++word) {
        for (size_t letter = 0; letter < 1 + random() % 9; ++letter)
          append_utf8(std::uniform_int_distribution<uint32_t>(script.first, script.last)(random), text);
        text += kBetween[random() % std::size(kBetween)];
      }
      lines.push_back(text);
    }
  }
  return lines;
}

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

class GgufTokenizers : public testing::Test {
 protected:
  GgufTokenizers() { fs::create_directories(dir_); }
  ~GgufTokenizers() override { fs::remove_all(dir_); }

  std::unique_ptr<Tokenizer> load(const GgufBuilder& file) const {
    file.write(dir_ / "model.gguf");
    return Tokenizer::load(dir_ / "model.gguf");
  }
  std::string refusal(const GgufBuilder& file) const {
    try {
      load(file);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  /// Byte-level: the letters of "tessera " (a blank is "Ġ"), two merges, three tokens beside them. Null:
  /// without a pre-tokenizer.
  static GgufBuilder byte_level(const char* pre) {
    GgufBuilder b = TestGgufLlama().file;
    b.set("tokenizer.ggml.model", "gpt2");
    if (pre) b.set("tokenizer.ggml.pre", pre);
    b.set("tokenizer.ggml.tokens",
          std::vector<std::string>{"t", "e", "s", "r", "a", "Ġ", "te", "ss", "<|end|>", "<tool>", "[PAD10]"});
    b.set("tokenizer.ggml.token_type",
          std::vector<int32_t>{kNormal, kNormal, kNormal, kNormal, kNormal, kNormal, kNormal, kNormal,
                               kControl, kUserDefined, kUnused});
    b.set("tokenizer.ggml.merges", std::vector<std::string>{"t e", "s s"});
    b.set("tokenizer.ggml.eos_token_id", uint32_t{8});
    return b;
  }

  const fs::path dir_ = fs::temp_directory_path() / fmt::format("tessera_gguf_tokenizer_{}", ::getpid());
};

TEST_F(GgufTokenizers, ByteLevelWithSpecialTokens) {
  const auto tokenizer = load(byte_level("gpt-2"));
  EXPECT_EQ(tokenizer->encode("tessera tea<|end|><tool>[PAD10]", false), (Ids{6, 7, 1, 3, 4, 5, 6, 4, 8, 9}));
  EXPECT_EQ(tokenizer->decode(Ids{6, 8, 9, 10, 5, 4}, true), "te<tool> a");
  EXPECT_EQ(tokenizer->eos_id(), 8);
  EXPECT_EQ(tokenizer->bos_id(), std::nullopt);
}

TEST_F(GgufTokenizers, BeginAndEndAreAddedAsTheFileSays) {
  const auto ids = [&](GgufBuilder b) {
    return load(b.set("tokenizer.ggml.bos_token_id", uint32_t{9}))->encode("te", true);
  };
  EXPECT_EQ(ids(byte_level("gpt-2")), Ids{6});
  EXPECT_EQ(ids(byte_level("llama-bpe")), (Ids{9, 6})) << "LLaMA 3 adds BOS";
  EXPECT_EQ(ids(byte_level("llama-bpe").set("tokenizer.ggml.add_bos_token", false)), Ids{6});
  EXPECT_EQ(ids(byte_level("qwen2")
                    .set("tokenizer.ggml.add_bos_token", true)
                    .set("tokenizer.ggml.add_eos_token", true)),
            (Ids{9, 6, 8}));
  EXPECT_THAT(refusal(byte_level("gpt-2").set("tokenizer.ggml.add_bos_token", true)),
              HasSubstr("add_bos_token"));
}

TEST_F(GgufTokenizers, EveryKnownPreTokenizerKeepsTheText) {
  for (const char* pre : {"gpt-2", "smollm", "starcoder", "llama-bpe", "llama3", "llama-v3", "qwen2",
                          "tekken", "deepseek-coder", "falcon", "bloom"}) {
    const auto tokenizer = load(byte_level(pre).set("tokenizer.ggml.bos_token_id", uint32_t{9}));
    const std::string text = "  tess tera  tea er ";
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, false), false), text) << pre;
  }
}

TEST_F(GgufTokenizers, UnknownOnesAreRefused) {
  EXPECT_THAT(refusal(byte_level("default")), HasSubstr("tokenizer.ggml.pre: 'default' is no pre-tokenizer"));
  EXPECT_THAT(refusal(byte_level("gpt-5")),
              HasSubstr("'gpt-5' is no pre-tokenizer that tessera knows (gpt-2, smollm"));
  EXPECT_THAT(refusal(byte_level(nullptr)), HasSubstr("tokenizer.ggml.pre: nothing is no pre-tokenizer"));
  EXPECT_NE(refusal(TestGgufLlama().file.set("tokenizer.ggml.model", "bert")), "");
  EXPECT_NE(refusal(TestGgufLlama().file), "");
}

TEST_F(GgufTokenizers, DamagedOnesAreRefused) {
  const auto gpt2 = [](const std::vector<std::string>& tokens, const std::vector<std::string>& merges) {
    GgufBuilder b = TestGgufLlama().file;
    b.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
    return b.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.merges", merges);
  };
  EXPECT_THAT(refusal(gpt2({"a", "a"}, {})), HasSubstr("'a' comes twice"));
  EXPECT_THAT(refusal(gpt2({"a"}, {"a b"})), HasSubstr("'b' is not in the vocabulary"));
  EXPECT_THAT(refusal(gpt2({"a\xff"}, {})), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(refusal(gpt2({"a"}, {}).set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1})),
              HasSubstr("2 types of 1 tokens"));
  EXPECT_THAT(refusal(gpt2({"a"}, {}).set("tokenizer.ggml.token_type", std::vector<int32_t>{9})),
              HasSubstr("9 is no type of a token"));
  EXPECT_THAT(refusal(gpt2({"a"}, {}).set("tokenizer.ggml.eos_token_id", uint32_t{1})),
              HasSubstr("eos_token_id"));
}

/// Whatever a header says, its model and tokenizer are made or refused.
TEST_F(GgufTokenizers, ChangedBytesGiveFilesOrErrors) {
  const GgufBuilder builder = byte_level("llama-bpe").set("tokenizer.ggml.bos_token_id", uint32_t{9});
  const std::string whole = builder.file();
  const size_t header = builder.header().size();
  const fs::path path = dir_ / "changed.gguf";
  std::mt19937 random(1);
  int made = 0;
  for (int i = 0; i < 600; ++i) {
    std::string bytes = whole;
    bytes[random() % header] = static_cast<char>(random());
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      const ModelFiles files(path);
      for (const std::string& name : files.names()) files.read(name);
      Tokenizer::load(path)->encode("tessera tea", true);
      ++made;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(made, 20);
  EXPECT_LT(made, 580);
}

/// The file's own copy wins.
TEST_F(GgufTokenizers, HuggingFacesOwnFileIsTaken) {
  GgufBuilder b = byte_level("unheard-of");
  b.set("tokenizer.huggingface.json", R"({"model": {"type": "BPE", "vocab": {"x": 0}, "merges": []},
                                         "decoder": {"type": "ByteLevel"}})");
  EXPECT_EQ(load(b)->encode("xx", true), (Ids{0, 0}));
}

/// Byte-level tokenizers of the shared models, written as GGUF, against Hugging Face's ids.
TEST_F(GgufTokenizers, RealByteLevelTokenizers) {
  for (const auto& [name, pre] : {std::pair("lab-llama", "llama-bpe"), {"lab-opt", "gpt-2"}}) {
    const fs::path model = shared_dir() / "models" / name;
    TESSERA_REQUIRE_FILE(model);
    const json document = read_json(model / "tokenizer.json");
    std::vector<std::string> tokens(8192);
    std::vector<int32_t> types(tokens.size(), kNormal);
    for (const auto& [token, id] : document["model"]["vocab"].items()) tokens[id.get<size_t>()] = token;
    for (const json& added : document["added_tokens"]) {
      tokens[added["id"].get<size_t>()] = added["content"];
      types[added["id"].get<size_t>()] = kControl;
    }
    std::vector<std::string> merges;
    for (const json& merge : document["model"]["merges"])
      merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    GgufBuilder b = TestGgufLlama().file;
    b.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", pre).set("tokenizer.ggml.tokens", tokens);
    b.set("tokenizer.ggml.token_type", types).set("tokenizer.ggml.merges", merges);
    const json generation = read_json(model / "generation_config.json");
    b.set("tokenizer.ggml.bos_token_id", generation["bos_token_id"].get<uint32_t>());
    b.set("tokenizer.ggml.eos_token_id", generation["eos_token_id"].get<uint32_t>());
    b.set("tokenizer.ggml.add_bos_token", true);
    const auto tokenizer = load(b);
    const json golden = read_json(model / "tokenizer_golden.json");
    for (const json& item : golden["cases"]) {
      const Ids ids = item["ids"];
      EXPECT_EQ(tokenizer->encode(item["text"].get<std::string>(), false), ids) << item["text"];
      EXPECT_EQ(tokenizer->decode(ids, false), item["decoded"].get<std::string>());
    }
    const auto original = Tokenizer::load(model);
    for (const std::string& line : lines_in_thirty_scripts())
      ASSERT_EQ(tokenizer->encode(line, true), original->encode(line, true)) << line;
    EXPECT_EQ(tokenizer->encode(golden["with_bos"]["text"].get<std::string>(), true),
              golden["with_bos"]["ids"].get<Ids>());
  }
}

/// A SentencePiece model, its vocabulary written as GGUF, against the library itself.
TEST_F(GgufTokenizers, SentencePieceMergesAsTheLibraryDoes) {
  std::string text;
  for (const char* word : {"stone", "mosaic", "tile", "small", "four", "sided", "pattern", "floor"}) {
    for (const char* other : {"of", "on", "the", "a", "and"})
      text += fmt::format("{} {} {}\n", word, other, word);
  }
  write_file(dir_ / "text", text);
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      fmt::format("--input={} --model_prefix={} --vocab_size=320 --model_type=bpe --byte_fallback=true "
                  "--user_defined_symbols=<tool> "
                  "--normalization_rule_name=identity --remove_extra_whitespaces=false --minloglevel=2",
                  (dir_ / "text").string(), (dir_ / "spm").string()));
  ASSERT_TRUE(status.ok()) << status.ToString();
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load((dir_ / "spm.model").string()).ok());

  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (int id = 0; id < library.GetPieceSize(); ++id) {
    tokens.push_back(library.IdToPiece(id));
    scores.push_back(library.GetScore(id));
    types.push_back(library.IsUnknown(id)               ? 2
                    : library.IsControl(id)             ? kControl
                    : library.IsByte(id)                ? 6
                    : library.IdToPiece(id) == "<tool>" ? kUserDefined
                                                        : kNormal);
  }
  GgufBuilder b = TestGgufLlama().file;
  b.set("tokenizer.ggml.model", "llama")
      .set("tokenizer.ggml.tokens", tokens)
      .set("tokenizer.ggml.scores", scores);
  b.set("tokenizer.ggml.token_type", types);
  b.set("tokenizer.ggml.bos_token_id", uint32_t{1}).set("tokenizer.ggml.eos_token_id", uint32_t{2});
  const auto tokenizer = load(b);
  EXPECT_EQ(tokenizer->vocab_size(), library.GetPieceSize());
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  for (const std::string line :
       {"", " ", "small stone", "  tile\n\nfloor ", "naïve 漢字 😀", "four-sided mosaics of stone"}) {
    Ids ids;
    ASSERT_TRUE(library.Encode(line, &ids).ok());
    EXPECT_EQ(tokenizer->encode(line, false), ids) << line;
    EXPECT_EQ(tokenizer->decode(ids, false), line);
    ids.insert(ids.begin(), 1);
    EXPECT_EQ(tokenizer->encode(line, true), ids) << line;
  }
  for (const std::string& line : lines_in_thirty_scripts()) {
    Ids ids;
    ASSERT_TRUE(library.Encode(line, &ids).ok());
    ASSERT_EQ(tokenizer->encode(line, false), ids) << line;
  }
  EXPECT_EQ(tokenizer->encode("stone<tool>", false).back(), library.PieceToId("<tool>"));

  b.set("tokenizer.ggml.add_space_prefix", false).set("tokenizer.ggml.add_bos_token", false);
  Ids stone = load(b)->encode("stone", true), spaced = tokenizer->encode("stone", false);
  EXPECT_NE(stone, spaced);
  EXPECT_EQ(load(b)->encode(" stone", true), spaced);

  b.set("tokenizer.ggml.padding_token_id", uint32_t{400});
  EXPECT_THAT(refusal(b), HasSubstr("padding_token_id"));
}

}  // namespace
}  // namespace tessera
