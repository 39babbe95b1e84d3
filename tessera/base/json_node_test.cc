// Tests of the JSON reader: typed values, places in messages, hostile documents.
#include "tessera/base/json_node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tessera/base/test_error.h"

namespace tessera {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(ParseJson, TakesThePythonNumbers) {
  const std::string text = R"({"a": NaN, "b": [-Infinity, Infinity], "NaN": "-Infinity \" NaN", "c": 1})";
  const json document = parse_json(text, "f");
  const JsonNode root(document, "f");
  EXPECT_EQ(root["NaN"].string(), "-Infinity \" NaN");
  EXPECT_EQ(root["c"].get<int>(), 1);
  EXPECT_THAT(error_of([&] { root["a"].number(); }), HasSubstr("f: a: "));
  EXPECT_THAT(error_of([&] { root["b"].items()[0].get<float>(); }), HasSubstr("f: b[0]: "));
  EXPECT_THAT(error_of([&] { root["a"].get<int>(); }), HasSubstr("expected an integer"));
  EXPECT_EQ(parse_ordered_json(text, "f").dump(),
            R"({"a":null,"b":[null,null],"NaN":"-Infinity \" NaN","c":1})");
  EXPECT_THAT(error_of([] { parse_json("[NaN", "f"); }), HasSubstr("f: not valid JSON"));
  EXPECT_THAT(error_of([] { parse_json("[nan]", "f"); }), HasSubstr("f: not valid JSON"));
}

TEST(JsonText, IsValidWhateverBytesItHolds) {
  EXPECT_EQ(json_text(json{{"path", "a\xff"}}), "{\"path\":\"a\uFFFD\"}");
}

TEST(JsonNode, ReadsTypedValues) {
  const json document = parse_json(
      R"({"yes": true, "n": -3, "x": 2.5, "text": "é", "list": [1, 2], "none": null, "of": {"a": {"b": 7}}})",
      "f");
  const JsonNode root(document, "f");
  EXPECT_TRUE(root["yes"].boolean());
  EXPECT_EQ(root["n"].get<int>(), -3);
  EXPECT_EQ(root["x"].get<double>(), 2.5);
  EXPECT_EQ(root["n"].number(), -3);
  EXPECT_EQ(root["text"].get<std::string>(), "é");
  EXPECT_EQ(root["list"].get<std::vector<int64_t>>(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(root["none"].get_or(5), 5);
  EXPECT_EQ(root["absent"].get_or(5), 5);
  EXPECT_EQ(root["of"]["a"]["b"].integer<uint8_t>(7, 7), 7);
  EXPECT_EQ(root["of"].members()[0].first, "a");
  EXPECT_EQ(root["text"].choice<int>({{"e", 1}, {"é", 2}}), 2);
}

TEST(JsonNode, ErrorsNameFileAndPlace) {
  const json document =
      parse_json(R"({"a": [{"b": 2.5}, "x"], "big": 18446744073709551615, "\n": 1e300})", "dir/f.json");
  const JsonNode root(document, "dir/f.json");
  const std::pair<std::function<void()>, const char*> cases[] = {
      {[&] { root["a"].items()[0]["b"].get<int>(); },
       "dir/f.json: a[0].b: expected an integer, found number"},
      {[&] { root["a"].items()[0]["b"].number(3); }, "dir/f.json: a[0].b: 2.5 is outside 3.."},
      {[&] { root["a"].items()[1].boolean(); }, "dir/f.json: a[1]: expected true or false, found string"},
      {[&] {
         root["a"].items()[1].choice<int>({{"y", 1}, {"z", 2}});
       },
       "a[1]: \"x\" is not one of y, z"},
      {[&] { root["a"].items()[1]["c"].string(); }, "dir/f.json: a[1]: expected an object, found string"},
      {[&] { root["absent"].string(); }, "dir/f.json: absent: expected a string, found nothing"},
      {[&] { root["big"].get<int64_t>(); }, "big: 18446744073709551615 is outside"},
      {[&] { root["a"].get<double>(); }, "a: expected a number, found array"},
      {[&] { root["\n"].get<float>(); }, "dir/f.json: \\n: 1e+300 is outside"},
      {[&] {
         root.expect_keys({"a", "big"});
       },
       "dir/f.json: unknown key '\\n' (known: a, big)"},
      {[&] { root["a"].expect_keys({}); }, "a: expected an object, found array"}};
  for (const auto& [action, text] : cases) EXPECT_THAT(error_of(action), HasSubstr(text));
}

TEST(JsonNode, QuotesLongValuesInPart) {
  const json document = std::string(100'000, 'x');
  EXPECT_LT(JsonNode(document, "f").shown().size(), 100u);
}

TEST(ParseJson, RefusesHostileDocuments) {
  EXPECT_THAT(error_of([] { parse_json("{", "f"); }), HasSubstr("f: not valid JSON"));
  EXPECT_THAT(error_of([] { parse_json("\"\xff\"", "f"); }), HasSubstr("f: not valid JSON"));
  EXPECT_THAT(error_of([] { parse_json(std::string(kMaxJsonBytes + 1, ' '), "f"); }),
              HasSubstr("f: 100000001 bytes"));
  EXPECT_THAT(error_of([] { read_json("/nonexistent/f.json"); }), HasSubstr("/nonexistent/f.json"));
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_json(nested(kMaxJsonDepth), "f"));
  for (size_t depth : {size_t{kMaxJsonDepth} + 1, size_t{1'000'000}}) {
    EXPECT_THAT(error_of([&] { parse_json(nested(depth), "f"); }), HasSubstr("nested more than 64 levels"));
  }
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += R"({"a":)";
  EXPECT_THAT(error_of([&] { parse_json(objects, "f"); }), HasSubstr("nested more than 64 levels"));
}

}  // namespace
}  // namespace tessera
