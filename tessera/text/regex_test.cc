// Tests of Regex, above all of what PCRE2 and Oniguruma read differently.
#include "tessera/text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/base/error.h"

namespace tessera {
namespace {

using Strings = std::vector<std::string>;

Strings find_all(std::string_view pattern, const std::string& text,
                 Regex::Syntax syntax = Regex::Syntax::kOniguruma) {
  Strings found;
  for (const Range& r : Regex(pattern, syntax, "test.json").find_all(text)) {
    found.push_back(text.substr(r.begin, r.end - r.begin));
  }
  return found;
}

std::string error_of(std::string_view pattern) {
  try {
    const Regex regex(pattern, Regex::Syntax::kOniguruma, "test.json: pattern");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Regex, FindsFromLeftToRight) {
  EXPECT_EQ(find_all(R"(\p{L}+|\p{N}{1,3})", "né12345漢"), (Strings{"né", "123", "45", "漢"}));
  EXPECT_EQ(find_all("a.c", "abc a.c", Regex::Syntax::kLiteral), Strings{"a.c"});
  EXPECT_TRUE(find_all("", "").empty());
}

TEST(Regex, EmptyMatchesDoNotFollowAMatch) {
  const Regex regex("x*", Regex::Syntax::kOniguruma, "test.json");
  std::vector<std::pair<size_t, size_t>> ranges;
  for (const Range& r : regex.find_all("éxxb")) ranges.emplace_back(r.begin, r.end);
  EXPECT_EQ(ranges, (std::vector<std::pair<size_t, size_t>>{{0, 0}, {2, 4}, {5, 5}}));
}

TEST(Regex, ReadsOnigurumaSyntax) {
  EXPECT_EQ(find_all(R"(\s+)", "a \u180E\u00A0b"), (Strings{" ", "\u00A0"}));
  EXPECT_EQ(find_all(R"([^\S\n]+)", "a \n\tb"), (Strings{" ", "\t"}));
  EXPECT_EQ(find_all(R"(\w+)", "e\u0301½-Ⅷ"), (Strings{"e\u0301½", "Ⅷ"}));
  EXPECT_EQ(find_all(R"([\w-]+)", "a-b ½"), Strings{"a-b"});
  EXPECT_EQ(find_all(R"(\W)", "a½ b"), Strings{" "});
  EXPECT_EQ(find_all(R"(\be\b)", "e\u0301 e"), Strings{"e"});
  EXPECT_EQ(find_all(R"(\h+)", "xbeefy"), Strings{"beef"});
  EXPECT_EQ(find_all(R"(\v)", "\n\x0B"), Strings{"\x0B"});
  EXPECT_EQ(find_all(R"(\u00e9)", "né"), Strings{"é"});
  EXPECT_EQ(find_all(R"([[:alpha:]]+)", "a\u0345-b"), (Strings{"a\u0345", "b"}));
  EXPECT_EQ(find_all(R"([\p{Han}]+|\p{^L})", "漢、a"), (Strings{"漢", "、"}));
  EXPECT_EQ(find_all(R"(\p{N}{1,3}+)", "1234567"), Strings{"1234567"});
  EXPECT_EQ(find_all(R"((?:a|é){2}+x)", "aaéaax"), Strings{"aéaax"});
  EXPECT_EQ(find_all(R"((?m:a.b)|c.d)", "a\nbc\nd"), Strings{"a\nb"});
  EXPECT_EQ(find_all(R"(^b|a$)", "a\nb"), (Strings{"a", "b"}));
  EXPECT_EQ(find_all(R"((?i:'s|'ll))", "It's I'LL 'ſ"), (Strings{"'s", "'LL", "'ſ"}));
  EXPECT_EQ(find_all("[^(\\s|[.,])]+", "a,b(c)|"), (Strings{"a", "b", "c"}));  // BLOOM's
  EXPECT_EQ(find_all(R"([]a]{)", "]{b{"), Strings{"]{"});
}

TEST(Regex, PatternOfLlama3) {
  constexpr std::string_view kPattern =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  EXPECT_EQ(find_all(kPattern, "I'M here\n\n  now: 12345!?\n"),
            (Strings{"I", "'M", " here", "\n\n", " ", " now", ":", " ", "123", "45", "!?\n"}));
}

TEST(Regex, LongRunsNeitherOverflowNorStall) {
  const std::string blanks(1'000'000, ' ');
  EXPECT_EQ(find_all(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", blanks + "x"), (Strings{blanks.substr(1), " "}));
  EXPECT_EQ(find_all(R"((?: |x)+)", blanks), Strings{blanks});
}

TEST(Regex, ExhaustionIsAnError) {
  EXPECT_THROW(find_all("(a|aa)+[bc]", std::string(100, 'a')), Error);
}

/// \K moves the start of a match, where it stands in a look-ahead behind the end: nothing may go on forever.
TEST(Regex, EveryMatchAdvancesOrIsAnError) {
  for (const char* pattern : {R"((?=a\K))", R"((?=ab\K)a)", R"((?=\g<k>)(?:x(?<k>ab\K))?)", R"(a\K)",
                              R"((?<=a\K))", R"((?:(?=(?<k>a\K))\g<k>|\K)+?)"}) {
    try {
      size_t end = 0;
      for (const Range& r : Regex(pattern, Regex::Syntax::kOniguruma, "test.json").find_all("aabab")) {
        EXPECT_LE(end, r.begin) << pattern;
        EXPECT_LE(r.begin, r.end) << pattern;
        end = r.end;
      }
    } catch (const Error&) {
    }
  }
}

TEST(Regex, BadPatternsAreErrors) {
  EXPECT_THAT(error_of("(a"), testing::StartsWith("test.json: pattern: regex '(a' does not compile: "));
  EXPECT_THAT(error_of(R"(\p{Nonsense})"), testing::HasSubstr("does not compile"));
  EXPECT_THAT(error_of("[a&&b]"), testing::HasSubstr("&& in a character class is not supported"));
  EXPECT_THAT(error_of("[a[^b]]"), testing::HasSubstr("not supported"));
  EXPECT_THAT(error_of(R"([\W])"), testing::HasSubstr(R"(\W in a character class is not supported)"));
  EXPECT_THAT(error_of("[[:graph:]]"), testing::HasSubstr("[:graph:] is not supported"));
  for (const char* cut :
       {"\\", "[", "[^", "[[:", "[a\\", "[a[", "[a[b]", "(?", "\\p{", "\\u12", "a{", ")", "a{1,"})
    error_of(cut);
}

}  // namespace
}  // namespace tessera
