// Tests of the pre-tokenizers.
#include "tessera/text/pre_tokenizer.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

Strings words(const json& component, const std::string& text, bool at_start = true) {
  std::vector<Piece> pieces;
  parse_pre_tokenizer(JsonNode(component, "test.json"))({text, at_start}, pieces);
  Strings result;
  for (const Piece& piece : pieces) result.push_back(piece.text);
  return result;
}

json split(const std::string& behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", {{"Regex", "-|\\+"}}}, {"behavior", behavior}, {"invert", invert}};
}

TEST(PreTokenizer, SplitBehaviors) {
  const std::string text = "the-final--count+-down-";
  EXPECT_EQ(words(split("Removed"), text), (Strings{"the", "final", "count", "down"}));
  EXPECT_EQ(words(split("Isolated"), text),
            (Strings{"the", "-", "final", "-", "-", "count", "+", "-", "down", "-"}));
  EXPECT_EQ(words(split("MergedWithPrevious"), text),
            (Strings{"the-", "final-", "-", "count+", "-", "down-"}));
  EXPECT_EQ(words(split("MergedWithNext"), text),
            (Strings{"the", "-final", "-", "-count", "+", "-down", "-"}));
  EXPECT_EQ(words(split("Contiguous"), text),
            (Strings{"the", "-", "final", "--", "count", "+-", "down", "-"}));
  EXPECT_EQ(words(split("Removed", true), text), (Strings{"-", "-", "-", "+", "-", "-"}));
  EXPECT_THROW(words(split("Kept"), text), Error);
}

TEST(PreTokenizer, SplitAtEmptyMatches) {
  const json component{{"type", "Split"}, {"pattern", {{"Regex", "(?=[A-Z])"}}}, {"behavior", "Isolated"}};
  EXPECT_EQ(words(component, "helloWorldFoo"), (Strings{"hello", "World", "Foo"}));
}

TEST(PreTokenizer, ByteLevel) {
  const auto byte_level = [](bool prefix, bool regex) {
    return json{{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", regex}};
  };
  EXPECT_EQ(words(byte_level(false, true), "don't  go 12é"), (Strings{"don", "'t", "Ġ", "Ġgo", "Ġ12", "Ã©"}));
  EXPECT_EQ(words(byte_level(true, true), "a b"), (Strings{"Ġa", "Ġb"}));
  EXPECT_EQ(words(byte_level(true, true), " a"), Strings{"Ġa"});
  EXPECT_EQ(words(byte_level(false, false), "a b\n"), Strings{"aĠbĊ"});
}

TEST(PreTokenizer, Metaspace) {
  const auto metaspace = [](const std::string& scheme, bool cut) {
    return json{{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", cut}};
  };
  EXPECT_EQ(words(metaspace("always", true), "Hey  you"), (Strings{"▁Hey", "▁", "▁you"}));
  EXPECT_EQ(words(metaspace("always", true), " Hey"), Strings{"▁Hey"});
  EXPECT_EQ(words(metaspace("never", true), "Hey you"), (Strings{"Hey", "▁you"}));
  EXPECT_EQ(words(metaspace("first", false), "Hey you", true), Strings{"▁Hey▁you"});
  EXPECT_EQ(words(metaspace("first", false), "Hey you", false), Strings{"Hey▁you"});
  EXPECT_EQ(words(json{{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", true}}, "a b"),
            (Strings{"_a", "_b"}));
  EXPECT_THROW(words(metaspace("sometimes", true), "a"), Error);
  EXPECT_THROW(words(json{{"type", "Metaspace"}, {"replacement", "__"}}, "a"), Error);
}

TEST(PreTokenizer, CharacterClasses) {
  EXPECT_EQ(words({{"type", "Digits"}, {"individual_digits", true}}, "a12½b"),
            (Strings{"a", "1", "2", "½", "b"}));
  EXPECT_EQ(words({{"type", "Digits"}, {"individual_digits", false}}, "a12½b"), (Strings{"a", "12½", "b"}));
  EXPECT_EQ(words({{"type", "Whitespace"}}, "Hey man!? x_1"), (Strings{"Hey", "man", "!?", "x_1"}));
  EXPECT_EQ(words({{"type", "WhitespaceSplit"}}, " Hey, man!\n"), (Strings{"Hey,", "man!"}));
  EXPECT_EQ(words({{"type", "Punctuation"}}, "a!?b"), (Strings{"a", "!", "?", "b"}));
  EXPECT_EQ(words({{"type", "Punctuation"}, {"behavior", "Contiguous"}}, "a!?b"), (Strings{"a", "!?", "b"}));
}

TEST(PreTokenizer, SequenceCutsPieceByPiece) {
  const json component = json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "WhitespaceSplit"},
      {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
      {"type": "Digits", "individual_digits": true}]})");
  EXPECT_EQ(words(component, "a1 b2"), (Strings{"▁a", "1", "b", "2"}));
  EXPECT_EQ(words(component, " a1"), (Strings{"a", "1"}));  // the first word is not at the start of the text
}

TEST(PreTokenizer, NullKeepsTheText) {
  EXPECT_EQ(words(nullptr, "a b"), Strings{"a b"});
}

TEST(PreTokenizer, UnknownComponentIsAnError) {
  EXPECT_THROW(words({{"type", "BertPreTokenizer"}}, "a"), Error);
}

}  // namespace
}  // namespace tessera
