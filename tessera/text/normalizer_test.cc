// Tests of the normalizers.
#include "tessera/text/normalizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

using nlohmann::json;

std::string normalize(const std::string& component, const std::string& text) {
  const json document = parse_json(component, "test.json");
  return parse_normalizer(JsonNode(document, "test.json"))(text);
}

TEST(Normalizer, NullKeepsTheText) {
  EXPECT_EQ(normalize("null", " a "), " a ");
}

TEST(Normalizer, PrependAndReplaceAsLlama2) {
  const std::string llama = R"({"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";
  EXPECT_EQ(normalize(llama, "a  b"), "▁a▁▁b");
  EXPECT_EQ(normalize(llama, ""), "");
}

TEST(Normalizer, ReplaceByRegex) {
  EXPECT_EQ(normalize(R"({"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": "$1"})", "a \n b"),
            "a$1b");
}

TEST(Normalizer, Strip) {
  const auto strip = [](bool left, bool right) {
    const json node{{"type", "Strip"}, {"strip_left", left}, {"strip_right", right}};
    return normalize(node.dump(), "\u3000 a b\n");
  };
  EXPECT_EQ(strip(true, true), "a b");
  EXPECT_EQ(strip(true, false), "a b\n");
  EXPECT_EQ(strip(false, true), "\u3000 a b");
  EXPECT_EQ(strip(false, false), "\u3000 a b\n");
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": true, "strip_right": false})", " \n"), "");
}

TEST(Normalizer, NormalForms) {
  EXPECT_EQ(normalize(R"({"type": "NFC"})", "e\u0301 ﬁ"), "é ﬁ");
  EXPECT_EQ(normalize(R"({"type": "NFD"})", "é ﬁ"), "e\u0301 ﬁ");
  EXPECT_EQ(normalize(R"({"type": "NFKC"})", "e\u0301 ﬁ ①"), "é fi 1");
  EXPECT_EQ(normalize(R"({"type": "NFKD"})", "é 가"), "e\u0301 \u1100\u1161");
  const std::string nul("a\0é", 4);
  EXPECT_EQ(normalize(R"({"type": "NFC"})", nul), nul);
}

TEST(Normalizer, Lowercase) {
  EXPECT_EQ(normalize(R"({"type": "Lowercase"})", "ÀΣ İẞ漢"), "àσ i\u0307ß漢");
}

TEST(Normalizer, ByteLevel) {
  EXPECT_EQ(normalize(R"({"type": "ByteLevel"})", "é \n"), "Ã©ĠĊ");
}

TEST(Normalizer, ErrorsNameThePlace) {
  const auto error_of = [](const std::string& component) -> std::string {
    try {
      normalize(component, "");
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error_of(R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nmt"}]})"),
            "test.json: normalizers[1]: components of type 'Nmt' are not supported");
  EXPECT_EQ(error_of(R"({"type": "Prepend"})"), "test.json: prepend: expected a string, found nothing");
  EXPECT_EQ(error_of(R"({"type": "Replace", "pattern": {}, "content": ""})"),
            "test.json: pattern: expected either a \"String\" or a \"Regex\"");
  EXPECT_EQ(error_of(R"("NFC")"), "test.json: expected an object, found string");
  std::string deep = R"({"type": "NFC"})";
  for (int i = 0; i < 1000; ++i) deep = fmt::format(R"({{"type": "Sequence", "normalizers": [{}]}})", deep);
  EXPECT_THAT(error_of(deep), testing::HasSubstr("nested more than"));
}

}  // namespace
}  // namespace tessera
