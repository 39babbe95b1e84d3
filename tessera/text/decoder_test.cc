// Tests of the decoders.
#include "tessera/text/decoder.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

Strings decode(const json& component, const Strings& tokens) {
  return parse_decoder(JsonNode(component, "test.json"))(tokens);
}

TEST(Decoder, NullJoinsWithBlanks) {
  EXPECT_EQ(decode(nullptr, {"a", "b"}), Strings{"a b"});
}

TEST(Decoder, ByteLevel) {
  const json component{{"type", "ByteLevel"}};
  EXPECT_EQ(decode(component, {"Hello", "Ġw", "Ã", "©", "Ċ"}), Strings{"Hello wé\n"});
  EXPECT_EQ(decode(component, {"Ã"}), Strings{"\uFFFD"});
  EXPECT_EQ(decode(component, {"two words", "漢"}),
            Strings{"two words漢"});  // added tokens stand as they are
}

TEST(Decoder, ByteFallback) {
  const json component{{"type", "ByteFallback"}};
  EXPECT_EQ(decode(component, {"<0xE5>", "<0x8f>", "<0xAB>", "a"}), (Strings{"叫", "a"}));
  EXPECT_EQ(decode(component, {"<0xE5>", "<0x8f>", "a"}), (Strings{"\uFFFD", "\uFFFD", "a"}));
  EXPECT_EQ(decode(component, {"<0xE5>"}), Strings{"\uFFFD"});
  EXPECT_EQ(decode(component, {"<0xG1>", "<0x1>", "<0x123>"}), (Strings{"<0xG1>", "<0x1>", "<0x123>"}));
}

TEST(Decoder, ReplaceFuseStrip) {
  const json replace = json::parse(R"({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})");
  EXPECT_EQ(decode(replace, {"▁a▁", "b"}), (Strings{" a ", "b"}));
  EXPECT_EQ(decode({{"type", "Fuse"}}, {"a", "b"}), Strings{"ab"});
  EXPECT_EQ(decode({{"type", "Fuse"}}, {}), Strings{""});
  const json strip{{"type", "Strip"}, {"content", "é"}, {"start", 2}, {"stop", 1}};
  EXPECT_EQ(decode(strip, {"éééaéé", "é", "a"}), (Strings{"éaé", "", "a"}));
}

TEST(Decoder, Metaspace) {
  const json component{{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}};
  EXPECT_EQ(decode(component, {"▁Hey", "▁you▁"}), (Strings{"Hey", " you "}));
  const json never{{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "never"}};
  EXPECT_EQ(decode(never, {"▁Hey"}), Strings{" Hey"});
}

TEST(Decoder, SequenceAsLlama2) {
  const json component = json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  EXPECT_EQ(decode(component, {"▁Hey", "▁", "<0xC3>", "<0xA9>"}), Strings{"Hey é"});
}

TEST(Decoder, BadComponentsAreErrors) {
  EXPECT_THROW(decode({{"type", "WordPiece"}}, {}), Error);
  EXPECT_THROW(decode({{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}}, {}), Error);
  EXPECT_THROW(decode({{"type", "Strip"}, {"content", ""}, {"start", 1}, {"stop", 0}}, {}), Error);
}

}  // namespace
}  // namespace tessera
