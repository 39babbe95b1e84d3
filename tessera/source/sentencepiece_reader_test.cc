// The reader of SentencePiece models against the writer, against hand-made messages, and against damage.
#include "tessera/source/sentencepiece_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tessera/base/error.h"

namespace tessera {
namespace {

using testing::HasSubstr;

SentencePieceVocabulary vocabulary() {
  return {.pieces = {{"<unk>", 0, PieceType::kUnknown},
                     {"<s>", 0, PieceType::kControl},
                     {"</s>", 0, PieceType::kControl},
                     {"<0x0A>", 0, PieceType::kByte},
                     {"\u2581the", -1.5f, PieceType::kNormal},
                     {"<tool>", 0, PieceType::kUserDefined},
                     {"hole", 0, PieceType::kUnused}},
          .bos = 1,
          .eos = 2,
          .padding = 6,
          .add_space_prefix = false};
}

std::string error_of(const std::string& bytes) {
  try {
    read_sentencepiece(bytes, "tokenizer.model");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

/// A field of a message: strings and messages, and numbers below 128.
std::string field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}
std::string field(int number, int value) {
  return {static_cast<char>(number << 3), static_cast<char>(value)};
}
const std::string kPiece = field(1, field(1, "a"));
const std::string kBpe = field(2, field(3, 2));
const std::string kIdentity = field(3, field(4, 0));

TEST(SentencePieceReader, ReadsWhatTheWriterWrites) {
  const SentencePieceVocabulary expected = vocabulary();
  const SentencePieceVocabulary found = read_sentencepiece(write_sentencepiece(expected), "tokenizer.model");
  ASSERT_EQ(found.pieces.size(), expected.pieces.size());
  for (size_t i = 0; i < found.pieces.size(); ++i) {
    EXPECT_EQ(found.pieces[i].text, expected.pieces[i].text);
    EXPECT_EQ(found.pieces[i].score, expected.pieces[i].score);
    EXPECT_EQ(found.pieces[i].type, expected.pieces[i].type);
  }
  EXPECT_EQ(found.bos, expected.bos);
  EXPECT_EQ(found.eos, expected.eos);
  EXPECT_EQ(found.padding, expected.padding);
  EXPECT_EQ(found.add_space_prefix, expected.add_space_prefix);
}

TEST(SentencePieceReader, FieldsThatDoNotMatterArePassedOver) {
  const std::string number64 = {static_cast<char>(9 << 3 | 1), 1, 2, 3, 4, 5, 6, 7, 8};
  const SentencePieceVocabulary found =
      read_sentencepiece(number64 + kPiece + kBpe + kIdentity + field(7, "other"), "tokenizer.model");
  ASSERT_EQ(found.pieces.size(), 1u);
  EXPECT_EQ(found.pieces[0].text, "a");
  EXPECT_EQ(found.pieces[0].type, PieceType::kNormal);
  EXPECT_EQ(found.bos, 1) << "the library's default";
  EXPECT_EQ(found.eos, 2);
  EXPECT_TRUE(found.add_space_prefix);
}

TEST(SentencePieceReader, RefusesOtherModels) {
  EXPECT_THAT(error_of(""), HasSubstr("tokenizer.model: is no SentencePiece model"));
  EXPECT_THAT(error_of(kPiece + field(2, field(3, 1))), HasSubstr("is of type 1; only BPE (2)"));
  EXPECT_THAT(error_of(kPiece + field(2, "")), HasSubstr("is of type 1")) << "the library's default";
  EXPECT_THAT(error_of(kPiece + kBpe + field(3, field(2, "rules"))), HasSubstr("changes characters"));
  EXPECT_THAT(error_of(kPiece + kBpe + field(3, field(4, 1))), HasSubstr("takes blanks away"));
  EXPECT_THAT(error_of(field(1, field(1, "a") + field(3, 7))), HasSubstr("is damaged")) << "no type 7";
  EXPECT_THAT(error_of(field(1, field(1, "a") + field(3, 0))), HasSubstr("is damaged"));
}

TEST(SentencePieceReader, RefusesDamage) {
  EXPECT_THAT(error_of({static_cast<char>(1 << 3 | 3)}), HasSubstr("is damaged")) << "groups";
  EXPECT_THAT(error_of({static_cast<char>(1 << 3 | 2), 100, 'a'}), HasSubstr("is damaged")) << "too short";
  EXPECT_THAT(error_of(std::string(11, '\xff')), HasSubstr("is damaged")) << "an endless number";
  EXPECT_THAT(error_of({static_cast<char>(1 << 3 | 5), 1, 2}), HasSubstr("is damaged")) << "half a number";
}

/// The sanitizers watch; either outcome is fine.
TEST(SentencePieceReader, SurvivesChangesAndCuts) {
  const std::string whole = write_sentencepiece(vocabulary());
  for (size_t length = 0; length < whole.size(); ++length) error_of(whole.substr(0, length));
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string changed = whole;
    for (int j = 0; j < 3; ++j) changed[random() % changed.size()] = static_cast<char>(random());
    error_of(changed);
  }
}

}  // namespace
}  // namespace tessera
