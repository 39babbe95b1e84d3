// Tests of the search for added tokens.
#include "tessera/text/added_tokens.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

std::string identity(std::string text) {
  return text;
}

std::string lowercase(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(c));
  return text;
}

AddedToken token(std::string content, int32_t id) {
  AddedToken t;
  t.content = std::move(content);
  t.id = id;
  return t;
}

/// "text|<id>|text"
std::string split(std::vector<AddedToken> tokens, const std::string& text,
                  const Normalizer& normalizer = identity) {
  std::string shown;
  for (const Piece& piece : AddedTokens(std::move(tokens), normalizer).split(text, normalizer)) {
    if (!shown.empty()) shown += '|';
    shown += piece.token == Piece::kNoToken ? piece.text : fmt::format("<{}>", piece.token);
  }
  return shown;
}

TEST(AddedTokens, LeftmostLongest) {
  const std::vector<AddedToken> tokens{token("ab", 1), token("abc", 2), token("bcd", 3), token("a", 4)};
  EXPECT_EQ(split(tokens, "xabcdab"), "x|<2>|d|<1>");
  EXPECT_EQ(split(tokens, "xbcdxa"), "x|<3>|x|<4>");
  EXPECT_EQ(split(tokens, ""), "");
  EXPECT_EQ(split({token("", 1)}, "ab"), "ab");
}

TEST(AddedTokens, SingleWord) {
  AddedToken t = token("cat", 1);
  t.single_word = true;
  EXPECT_EQ(split({t}, "cat concat cats écat cat."), "<1>| concat cats écat |<1>|.");
}

TEST(AddedTokens, StripsBlanks) {
  AddedToken left = token("<l>", 1), right = token("<r>", 2);
  left.lstrip = true;
  right.rstrip = true;
  EXPECT_EQ(split({left}, "a \u3000<l> b"), "a|<1>| b");
  EXPECT_EQ(split({right}, "a <r>\n b"), "a |<2>|b");
  EXPECT_EQ(split({left, right}, "<r>  <l>"), "<2>|<1>");
}

TEST(AddedTokens, BlanksThatAreTakenAreNoToken) {
  AddedToken newline = token("\n", 1);
  newline.lstrip = newline.rstrip = true;
  EXPECT_EQ(split({newline}, "a\n\n b"), "a|<1>|b");
}

TEST(AddedTokens, NormalizedTokensMatchNormalizedText) {
  AddedToken raw = token("RAW", 1), normalized = token("Norm", 2);
  normalized.normalized = true;
  EXPECT_EQ(split({raw, normalized}, "xRAWx raw NORM", lowercase), "x|<1>|x raw |<2>");
  const AddedTokens tokens({raw, normalized}, lowercase);
  EXPECT_EQ(tokens.token(1)->spelling, "RAW");
  EXPECT_EQ(tokens.token(2)->spelling, "norm");  // the decoder undoes the normalization
}

TEST(AddedTokens, OnlyTheFirstPieceIsAtTheStart) {
  const AddedTokens tokens({token("<t>", 1)}, identity);
  const auto pieces = tokens.split("a<t>b", identity);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_TRUE(pieces[0].at_start);
  EXPECT_FALSE(pieces[2].at_start);
  EXPECT_FALSE(tokens.split("<t>b", identity)[1].at_start);
}

TEST(AddedTokens, LookUp) {
  const AddedTokens tokens({token("<t>", 7)}, identity);
  EXPECT_EQ(tokens.id("<t>"), 7);
  EXPECT_EQ(tokens.id("<u>"), std::nullopt);
  EXPECT_EQ(tokens.token(7)->content, "<t>");
  EXPECT_EQ(tokens.token(0), nullptr);
  EXPECT_EQ(tokens.size(), 8);
}

}  // namespace
}  // namespace tessera
