// Penalties, biases and the least length, as the edits of a small text show them.
#include "tessera/engine/logit_rules.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::map<int32_t, LogitEdit> edits_of(const LogitEditor& editor) {
  std::map<int32_t, LogitEdit> edits;
  for (const LogitEdit& edit : editor.edits()) {
    EXPECT_TRUE(edits.emplace(edit.id, edit).second) << "an id comes once";
  }
  return edits;
}

TEST(LogitRules, WithoutRulesNothingIsEdited) {
  LogitEditor editor({}, {}, std::vector<int32_t>{1, 2}, std::vector<int32_t>{0});
  editor.push(1);
  EXPECT_TRUE(editor.edits().empty());
}

TEST(LogitRules, RepetitionCountsPromptAndTextPresenceAndFrequencyTheTextAlone) {
  LogitEditor editor({.repetition_penalty = 1.5f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f}, {},
                     std::vector<int32_t>{7, 8, 7}, {});
  auto edits = edits_of(editor);
  EXPECT_EQ(edits.size(), 2u);
  EXPECT_FLOAT_EQ(edits[7].divisor, 1.5f);
  EXPECT_FLOAT_EQ(edits[7].addend, 0);
  for (int32_t id : {9, 7, 9}) editor.push(id);
  edits = edits_of(editor);
  EXPECT_EQ(edits.size(), 3u);
  EXPECT_FLOAT_EQ(edits[9].divisor, 1.5f);
  EXPECT_FLOAT_EQ(edits[9].addend, -0.5f - 2 * 0.25f);
  EXPECT_FLOAT_EQ(edits[7].addend, -0.5f - 0.25f);
  EXPECT_FLOAT_EQ(edits[8].addend, 0);
}

TEST(LogitRules, BiasesAddUpWithPenalties) {
  LogitEditor editor({.presence_penalty = 1}, {{3, 2.5f}, {4, -100}}, {}, {});
  editor.push(3);
  auto edits = edits_of(editor);
  EXPECT_FLOAT_EQ(edits[3].addend, 1.5f);
  EXPECT_FLOAT_EQ(edits[4].addend, -100);
}

TEST(LogitRules, EndsAreForbiddenUntilEnoughIsDrawn) {
  LogitEditor editor({.min_tokens = 2}, {{0, 1}}, {}, std::vector<int32_t>{0, 5});
  EXPECT_TRUE(std::isinf(edits_of(editor)[0].addend) && std::isinf(edits_of(editor)[5].addend));
  editor.push(1);
  EXPECT_TRUE(std::isinf(edits_of(editor)[0].addend));
  editor.push(2);
  EXPECT_FLOAT_EQ(edits_of(editor)[0].addend, 1);
  EXPECT_FLOAT_EQ(edits_of(editor)[5].addend, 0);
}

TEST(LogitRules, RulesOutOfRangeAreRefused) {
  EXPECT_THROW(check_rules({.repetition_penalty = 0}, {}, 10), Error);
  EXPECT_THROW(check_rules({.presence_penalty = std::nanf("")}, {}, 10), Error);
  EXPECT_THROW(check_rules({.frequency_penalty = INFINITY}, {}, 10), Error);
  EXPECT_THROW(check_rules({}, {{10, 1}}, 10), Error);
  EXPECT_THROW(check_rules({}, {{1, NAN}}, 10), Error);
  EXPECT_THROW(check_rules({.min_tokens = -1}, {}, 10), Error);
  EXPECT_NO_THROW(check_rules({}, {{9, -100}}, 10));
}

}  // namespace
}  // namespace tessera
