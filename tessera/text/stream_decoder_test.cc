// Tests of StreamDecoder, with the bundled model: metaspace, byte fallback, a blank dropped at the start.
#include <gtest/gtest.h>

#include <random>

#include "tessera/text/tokenizer.h"
#include "tessera/text/unicode.h"

namespace tessera {
namespace {

using Ids = std::vector<int32_t>;

class StreamDecoderTest : public testing::Test {
 protected:
  /// What every push gives, and what finish gives.
  std::vector<std::string> stream(const Ids& ids, bool skip_special = true) const {
    StreamDecoder decoder(*tokenizer_, skip_special);
    std::vector<std::string> parts;
    for (const int32_t id : ids) parts.push_back(decoder.push(id));
    parts.push_back(decoder.finish());
    return parts;
  }

  std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::load(std::filesystem::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama");
};

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

TEST_F(StreamDecoderTest, WordsComeAtOnce) {
  const Ids ids = tokenizer_->encode("Hello world, it is", true);
  const std::vector<std::string> parts = stream(ids);
  EXPECT_EQ(join(parts), "Hello world, it is");
  EXPECT_EQ(parts.front(), "");  // BOS
  EXPECT_EQ(parts.back(), "");   // nothing was held back
}

TEST_F(StreamDecoderTest, EqualsDecodeAndNeverSplitsACharacter) {
  for (const std::string text : {"", " ", "  two  blanks ", "naïve 漢字 👩‍👩‍👧 end",
                                 "\n\n\t code {\n  é\n}\n", "<s> a </s> b"}) {
    const Ids ids = tokenizer_->encode(text, true);
    for (const bool skip_special : {false, true}) {
      const std::vector<std::string> parts = stream(ids, skip_special);
      EXPECT_EQ(join(parts), tokenizer_->decode(ids, skip_special));
      for (const std::string& part : parts) {
        EXPECT_TRUE(is_valid_utf8(part));
        EXPECT_EQ(part.find(kReplacementUtf8), std::string::npos);
      }
    }
  }
}

TEST_F(StreamDecoderTest, RandomIdsWithoutBytesEqualDecode) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    Ids ids;
    for (int i = 0; i < 12; ++i) ids.push_back(static_cast<int32_t>(259 + random() % (4096 - 259)));
    if (round % 3 == 0) ids[random() % ids.size()] = static_cast<int32_t>(random() % 3);  // a special token
    EXPECT_EQ(join(stream(ids)), tokenizer_->decode(ids, true));
    EXPECT_EQ(join(stream(ids, false)), tokenizer_->decode(ids, false));
  }
}

TEST_F(StreamDecoderTest, HoldsBackUnfinishedCharacters) {
  const auto byte = [&](const char* token) { return *tokenizer_->token_id(token); };
  EXPECT_EQ(stream({byte("<0xE6>"), byte("<0xBC>"), byte("<0xA2>")}),
            (std::vector<std::string>{"", "", "漢", ""}));
  EXPECT_EQ(stream({byte("<0xE6>"), byte("<0xBC>")}), (std::vector<std::string>{"", "", "\uFFFD\uFFFD"}));
  // Invalid bytes after valid ones: what is out stays out.
  const std::string text = join(stream({byte("<0x41>"), byte("<0xFF>"), *tokenizer_->token_id("▁a")}));
  EXPECT_EQ(text, "A\uFFFD a");
}

TEST_F(StreamDecoderTest, FinishStartsAnew) {
  StreamDecoder decoder(*tokenizer_);
  const Ids ids = tokenizer_->encode("Hello world", false);
  for (int round = 0; round < 2; ++round) {
    std::string text;
    for (const int32_t id : ids) text += decoder.push(id);
    EXPECT_EQ(text + decoder.finish(), "Hello world");
  }
}

}  // namespace
}  // namespace tessera
