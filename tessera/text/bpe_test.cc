// Tests of byte-pair encoding.
#include "tessera/text/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace tessera {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

/// A model whose ids count up in the order of `tokens`.
json model(const std::vector<std::string>& tokens, const json& merges = json::array()) {
  json vocab = json::object();
  for (const std::string& token : tokens) vocab.emplace(token, vocab.size());
  return {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}};
}

Ids encode(const json& document, const std::string& word) {
  Ids ids;
  Bpe(JsonNode(document, "test.json")).encode(word, ids);
  return ids;
}

std::string error_of(const json& document) {
  try {
    encode(document, "a");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Bpe, LowestRankThenLeftmostMergesFirst) {
  const json m = model({"a", "b", "c", "ab", "bc", "aa"}, {"b c", "a b", "a a"});
  EXPECT_EQ(encode(m, "abc"), (Ids{0, 4}));
  EXPECT_EQ(encode(m, "aab"), (Ids{0, 3}));
  EXPECT_EQ(encode(m, "aaa"), (Ids{5, 0}));
  EXPECT_TRUE(encode(m, "").empty());
}

TEST(Bpe, MergesInBothSpellings) {
  EXPECT_EQ(encode(model({"a", "b", "ab"}, {"a b"}), "ab"), Ids{2});
  EXPECT_EQ(encode(model({"a", "b", "ab"}, json::parse(R"([["a", "b"]])")), "ab"), Ids{2});
}

TEST(Bpe, IgnoreMerges) {
  json m = model({"a", "b", "ab"});
  EXPECT_EQ(encode(m, "ab"), (Ids{0, 1}));
  m["ignore_merges"] = true;
  EXPECT_EQ(encode(m, "ab"), Ids{2});
  EXPECT_EQ(encode(m, "aba"), (Ids{0, 1, 0}));
}

TEST(Bpe, UnknownCharacters) {
  json m = model({"<unk>", "a", "b"});
  EXPECT_EQ(encode(m, "axxb"), (Ids{1, 2}));  // without an unknown token they vanish
  m["unk_token"] = "<unk>";
  EXPECT_EQ(encode(m, "axxb"), (Ids{1, 0, 0, 2}));
  m["fuse_unk"] = true;
  EXPECT_EQ(encode(m, "axéb"), (Ids{1, 0, 2}));
  EXPECT_EQ(encode(m, "xaxx"), (Ids{0, 1, 0}));
}

TEST(Bpe, ByteFallbackNeedsAllBytesOfTheCharacter) {
  json m = model({"<unk>", "a", "<0xC3>", "<0xA9>"});
  m["unk_token"] = "<unk>";
  m["byte_fallback"] = true;
  EXPECT_EQ(encode(m, "aé"), (Ids{1, 2, 3}));
  EXPECT_EQ(encode(m, "aè"), (Ids{1, 0}));
}

/// Merges the best pair of the whole word again and again: O(n^2), but plain.
Ids encode_slowly(const std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>>& merges, Ids ids) {
  while (true) {
    int best_rank = INT_MAX;
    size_t best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto merge = merges.find({ids[i], ids[i + 1]});
      if (merge != merges.end() && merge->second.first < best_rank) {
        best_rank = merge->second.first;
        best = i;
      }
    }
    if (best_rank == INT_MAX) return ids;
    ids[best] = merges.at({ids[best], ids[best + 1]}).second;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, EqualsTheSlowAlgorithm) {
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> tokens{"a", "b", "c"};
    json merges = json::array();
    std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>> table;
    for (int rank = 0; rank < 30; ++rank) {  // new tokens from any two, as training makes them
      const size_t left = below(tokens.size()), right = below(tokens.size());
      const std::string merged = tokens[left] + tokens[right];
      if (std::find(tokens.begin(), tokens.end(), merged) != tokens.end()) continue;
      table[{static_cast<int32_t>(left), static_cast<int32_t>(right)}] = {
          rank, static_cast<int32_t>(tokens.size())};
      merges.push_back(json::array({tokens[left], tokens[right]}));
      tokens.push_back(merged);
    }
    const json m = model(tokens, merges);
    for (const size_t length : {1u, 2u, 7u, 100u, 400u}) {
      std::string word;
      Ids characters;
      for (size_t i = 0; i < length; ++i) {
        characters.push_back(static_cast<int32_t>(below(3)));
        word += tokens[static_cast<size_t>(characters.back())];
      }
      ASSERT_EQ(encode(m, word), encode_slowly(table, characters)) << m;
    }
  }
}

TEST(Bpe, ErrorsNameThePlace) {
  EXPECT_EQ(error_of(model({"a", "b"}, {"a b"})), "test.json: merges[0]: 'ab' is not in the vocabulary");
  EXPECT_EQ(error_of(model({"a", "ax"}, {"a x"})), "test.json: merges[0]: 'x' is not in the vocabulary");
  EXPECT_THAT(error_of(model({"a"}, {"a"})), testing::HasSubstr("merges[0]: expected two tokens"));
  EXPECT_THAT(error_of(model({"a"}, {"a b c"})), testing::HasSubstr("expected two tokens"));
  EXPECT_THAT(error_of(model({"a"}, json::parse(R"([["a", "b", "c"]])"))),
              testing::HasSubstr("expected two tokens, found 3"));
  EXPECT_THAT(error_of(model({"a"}, {7})), testing::HasSubstr("merges[0]: expected an array"));
  const auto with = [](const char* key, const json& value) {
    json m = model({"a"});
    m[key] = value;
    return error_of(m);
  };
  EXPECT_EQ(with("type", "Unigram"), "test.json: models of type 'Unigram' are not supported, only BPE");
  EXPECT_EQ(with("unk_token", "<unk>"), "test.json: unk_token: '<unk>' is not in the vocabulary");
  EXPECT_THAT(with("end_of_word_suffix", "</w>"), testing::HasSubstr("end_of_word_suffix: not supported"));
  EXPECT_EQ(with("continuing_subword_prefix", ""), "");
  EXPECT_THAT(with("dropout", 0.1), testing::HasSubstr("dropout: not supported"));
  EXPECT_THAT(with("fuse_unk", 1), testing::HasSubstr("fuse_unk: expected true or false, found number"));
  EXPECT_THAT(with("vocab", json::array()), testing::HasSubstr("vocab: expected an object, found array"));
  for (const json& id : {json(-1), json(kMaxVocabSize), json(~uint64_t{0})}) {
    EXPECT_THAT(with("vocab", {{"a", id}}), testing::HasSubstr("vocab.a: " + id.dump() + " is outside 0.."));
  }
  EXPECT_THAT(with("vocab", {{"a", 0.5}}), testing::HasSubstr("vocab.a: expected an integer"));
}

}  // namespace
}  // namespace tessera
