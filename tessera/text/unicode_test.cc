// Tests of UTF-8 reading and of the character classes.
#include "tessera/text/unicode.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

using std::string_literals::operator""s;

TEST(Utf8, EveryCodePointRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;  // surrogates are no characters
    std::string text;
    append_utf8(c, text);
    const CodePoint decoded = decode_code_point(text);
    ASSERT_TRUE(decoded.valid);
    ASSERT_EQ(decoded.value, c);
    ASSERT_EQ(decoded.length, text.size());
  }
}

TEST(Utf8, ReplacesMaximalInvalidParts) {
  // The example of the Unicode standard, section 3.9, table 3-11.
  EXPECT_EQ(replace_invalid_utf8("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // surrogate
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // > U+10FFFF
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98"), "\uFFFD");                        // cut off
  EXPECT_EQ(replace_invalid_utf8("nul \0 and é"s), "nul \0 and é"s);
}

TEST(Utf8, KnowsValidText) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8("漢字 😀"));
  EXPECT_FALSE(is_valid_utf8("漢\xE5"));
}

TEST(CharacterClasses, WhiteSpace) {
  for (const char32_t c : {U'\t', U'\n', U' ', U'\u0085', U'\u00A0', U'\u2003', U'\u3000'})
    EXPECT_TRUE(is_white_space(c));
  for (const char32_t c : {U'a', U'\u001C', U'\u180E', U'\u200B', U'\uFEFF'}) EXPECT_FALSE(is_white_space(c));
}

TEST(CharacterClasses, Word) {
  for (const char32_t c : {U'a', U'_', U'7', U'é', U'漢', U'\u0301', U'Ⅷ', U'Ⓐ', U'\u200D'})
    EXPECT_TRUE(is_word(c));
  for (const char32_t c : {U' ', U'-', U'½', U'②', U'😀'}) EXPECT_FALSE(is_word(c));
}

TEST(CharacterClasses, NumbersAndPunctuation) {
  for (const char32_t c : {U'7', U'٣', U'½', U'②', U'Ⅷ'}) EXPECT_TRUE(is_number(c));
  EXPECT_FALSE(is_number(U'a'));
  for (const char32_t c : {U'!', U'$', U'^', U'_', U'«', U'、'}) EXPECT_TRUE(is_punctuation(c));
  for (const char32_t c : {U'a', U' ', U'€', U'\u00A8'}) EXPECT_FALSE(is_punctuation(c));
}

}  // namespace
}  // namespace tessera
