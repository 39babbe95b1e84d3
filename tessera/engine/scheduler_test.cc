// Cases one by one; scheduler_trace_test.cc has what holds in all of them.
#include "tessera/engine/scheduler.h"

#include <gtest/gtest.h>

#include <ostream>

#include "tessera/base/error.h"

namespace tessera {

void PrintTo(const Chunk& chunk, std::ostream* out) {
  *out << chunk.sequence << ": " << chunk.first << " + " << chunk.count;
}

namespace {

using Ids = std::vector<SequenceId>;
using Chunks = std::vector<Chunk>;

/// A prompt of `length` ids that no other sequence has.
Sequence sequence(SequenceId id, int64_t length, int64_t max_length, int32_t owner = 0) {
  return {.id = id,
          .ids = std::vector<int32_t>(static_cast<size_t>(length), static_cast<int32_t>(id)),
          .max_length = max_length,
          .owner = owner};
}

/// Runs one step; each sequence that can have a next id gets a 7.
StepPlan step(Scheduler& scheduler) {
  const StepPlan plan = scheduler.plan();
  scheduler.complete(plan);
  for (const Chunk& chunk : plan.chunks) {
    const Sequence& s = scheduler.sequence(chunk.sequence);
    if (s.computed == std::ssize(s.ids) && s.computed < s.max_length) scheduler.append(s.id, 7);
  }
  return plan;
}

TEST(Scheduler, RefusesWhatCanNeverRun) {
  EXPECT_THROW(Scheduler({.step_tokens = 0, .pages = 10}), Error);
  EXPECT_THROW(Scheduler({.max_sequences = 0, .pages = 10}), Error);
  EXPECT_THROW(Scheduler({.pages = 1}), Error);
  Scheduler scheduler({.pages = 3});
  EXPECT_THROW(scheduler.add(sequence(1, 0, 10)), Error);
  EXPECT_THROW(scheduler.add(sequence(1, 11, 10)), Error);
  EXPECT_THROW(scheduler.add(sequence(1, 10, 129)), Error);
  EXPECT_EQ(scheduler.waiting(), 0u);
  EXPECT_EQ(scheduler.plan(), StepPlan{});
  scheduler.add(sequence(1, 10, 128));
  EXPECT_THROW(scheduler.add(sequence(1, 10, 128)), Error);
  EXPECT_EQ(scheduler.waiting(), 1u);
  EXPECT_THROW(scheduler.sequence(2), Error);
  EXPECT_THROW(scheduler.finish(2), Error);
}

TEST(Scheduler, ErrorsNameBothNumbers) {
  Scheduler scheduler({.pages = 3});
  try {
    scheduler.add(sequence(1, 10, 129));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()),
              "sequence 1: 129 ids do not fit in the KV pool, which holds 128; allow fewer or enlarge it");
  }
}

TEST(Scheduler, DecodeRowsComeFirstAndPromptsGetTheRest) {
  Scheduler scheduler({.step_tokens = 256, .pages = 100});
  scheduler.add(sequence(1, 10, 1000));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 0, 10}}));
  scheduler.add(sequence(2, 400, 1000));
  // 255 positions, of which 192 are whole pages.
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 10, 1}, {2, 0, 192}}));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 11, 1}, {2, 192, 208}}));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 12, 1}, {2, 400, 1}}));
}

TEST(Scheduler, AShortPromptPassesALongOne) {
  Scheduler scheduler({.step_tokens = 256, .pages = 100});
  scheduler.add(sequence(1, 1000, 2000));
  scheduler.add(sequence(2, 30, 2000));
  scheduler.add(sequence(3, 100, 2000));
  // Three quarters for the first, what is left for the others.
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 0, 192}, {2, 0, 30}, {3, 0, 34}}));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{2, 30, 1}, {1, 192, 192}, {3, 34, 30}}));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{2, 31, 1}, {1, 384, 192}, {3, 64, 36}}));
  scheduler.finish(2);
  scheduler.finish(3);
  // All for the first where nobody else has a use for it.
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 576, 256}}));
}

TEST(Scheduler, PromptsGoOnWhereLessThanAPageIsLeft) {
  Scheduler scheduler({.step_tokens = 40, .pages = 100});
  scheduler.add(sequence(1, 130, 1000));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 0, 40}}));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 40, 24}}));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 64, 40}}));
}

TEST(Scheduler, SequencesAtOnceAreLimited) {
  Scheduler scheduler({.step_tokens = 256, .max_sequences = 2, .pages = 100});
  for (SequenceId id = 1; id <= 3; ++id) scheduler.add(sequence(id, 10, 100));
  step(scheduler);
  EXPECT_EQ(scheduler.running(), 2u);
  EXPECT_EQ(scheduler.waiting(), 1u);
  scheduler.finish(1);
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{2, 10, 1}, {3, 0, 10}}));
}

TEST(Scheduler, AdmissionFindsRoomForPromptAnswerAndASpareHundredth) {
  // 1000 pages, 10 of them spare. The first takes 900.
  Scheduler scheduler({.step_tokens = 100000, .pages = 1001});
  scheduler.add(sequence(1, 900 * 64, 900 * 64 + 1));
  scheduler.complete(scheduler.plan());
  EXPECT_EQ(scheduler.free_pages(), 100);
  scheduler.add(sequence(3, 89 * 64, 89 * 64 + 1000));  // with a page for its answer: 90
  scheduler.plan();
  EXPECT_EQ(scheduler.running(), 2u);
  scheduler.finish(3);
  scheduler.add(sequence(4, 89 * 64 + 1, 89 * 64 + 1000));  // 91
  scheduler.plan();
  EXPECT_EQ(scheduler.running(), 1u);
  scheduler.finish(4);
  scheduler.add(sequence(5, 89 * 64 + 1, 89 * 64 + 64));  // a short answer: 90
  scheduler.plan();
  EXPECT_EQ(scheduler.running(), 2u);
}

TEST(Scheduler, AloneASequenceMayFillThePool) {
  Scheduler scheduler({.step_tokens = 20000, .pages = 201});
  const int64_t all = 200 * 64;
  scheduler.add(sequence(1, all - 1, all));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 0, all - 1}}));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, all - 1, 1}}));
}

TEST(Scheduler, WhoIsFirstInTurnIsNotPassedForLackOfPages) {
  Scheduler scheduler({.step_tokens = 1000, .pages = 11});
  scheduler.add(sequence(1, 5 * 64, 6 * 64, /*owner=*/1));
  step(scheduler);
  scheduler.add(sequence(2, 8 * 64, 9 * 64, /*owner=*/2));
  scheduler.add(sequence(3, 10, 64, /*owner=*/3));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 320, 1}}));
  scheduler.finish(1);
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{2, 0, 512}, {3, 0, 10}}));
}

TEST(Scheduler, TokensThatNobodyWaitedForAreNotCharged) {
  Scheduler scheduler({.step_tokens = 64, .max_sequences = 2, .pages = 100});
  scheduler.add(sequence(1, 640, 1000, /*owner=*/1));
  for (int i = 0; i < 10; ++i) step(scheduler);
  // The first owner has had 640 tokens and is still the first in turn.
  scheduler.add(sequence(2, 60, 1000, /*owner=*/1));
  scheduler.add(sequence(3, 60, 1000, /*owner=*/2));
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 640, 1}, {2, 0, 60}}));
}

TEST(Scheduler, CachedPrefixesAreNotComputedAgain) {
  Scheduler scheduler({.step_tokens = 1000, .pages = 20});
  scheduler.add(sequence(1, 128, 1000));
  step(scheduler);
  Sequence same = sequence(2, 200, 1000);
  same.ids.assign(200, 1);
  scheduler.add(same);
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 128, 1}, {2, 128, 72}}));
  EXPECT_EQ(scheduler.sequence(1).pages[0], scheduler.sequence(2).pages[0]);
  EXPECT_EQ(scheduler.sequence(1).pages[1], scheduler.sequence(2).pages[1]);
  EXPECT_NE(scheduler.sequence(1).pages[2], scheduler.sequence(2).pages[2]);
  EXPECT_EQ(scheduler.sequence(2).prompt_tokens, 200);
  EXPECT_EQ(scheduler.counters().prefix_hit_tokens, 128);
  scheduler.finish(1);
  scheduler.finish(2);
  EXPECT_EQ(scheduler.cached_pages(), 3);
  EXPECT_EQ(scheduler.free_pages(), 16);

  // Of a prompt that is cached as a whole, the last page runs: its last logits are wanted.
  same.id = 3;
  same.ids.resize(128);
  scheduler.add(same);
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{3, 64, 64}}));
  // With one position left it is a decode row, ahead of the prompts.
  same.id = 5;
  same.ids.resize(129, 1);
  scheduler.add(sequence(4, 100, 1000));
  scheduler.add(same);
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{3, 128, 1}, {5, 128, 1}, {4, 0, 100}}));
  // Another salt, another text.
  same.id = 6;
  same.salt = 1;
  scheduler.add(same);
  EXPECT_EQ(step(scheduler).chunks.back(), (Chunk{6, 0, 129}));
}

TEST(Scheduler, ScoredPositionsRunAndFillTheCache) {
  Scheduler scheduler({.step_tokens = 1000, .pages = 20});
  for (SequenceId id = 1; id <= 2; ++id) {
    Sequence scored = sequence(id, 128, 128);
    scored.ids.assign(128, 1);
    scored.reusable = 0;
    scheduler.add(scored);
    EXPECT_EQ(step(scheduler).chunks, (Chunks{{id, 0, 128}}));
    scheduler.finish(id);
    EXPECT_EQ(scheduler.cached_pages(), 2);
  }
  Sequence reader = sequence(3, 130, 200);
  reader.ids.assign(130, 1);
  scheduler.add(reader);
  EXPECT_EQ(step(scheduler).chunks, (Chunks{{3, 128, 2}}));
  // Whole pages before the first scored position are reused.
  for (const auto& [id, reusable, first] :
       {std::tuple<SequenceId, int64_t, int64_t>{4, 127, 64}, {5, 63, 0}, {6, 128, 128}}) {
    Sequence scored = sequence(id, 130, 130);
    scored.ids.assign(130, 1);
    scored.reusable = reusable;
    scheduler.add(scored);
    EXPECT_EQ(step(scheduler).chunks.back(), (Chunk{id, first, 130 - first}));
  }
}

TEST(Scheduler, TheYoungestIsPreemptedAndComesBackFirst) {
  for (const bool prefix_cache : {false, true}) {
    Scheduler scheduler({.pages = 6, .prefix_cache = prefix_cache});
    scheduler.add(sequence(1, 63, 256));
    scheduler.add(sequence(2, 63, 256));
    scheduler.add(sequence(3, 127, 129));
    EXPECT_EQ(step(scheduler).chunks.size(), 3u);
    EXPECT_EQ(step(scheduler).chunks.size(), 3u);
    // All fill a page now. The first gets the last one, then the third is in the second's way.
    scheduler.add(sequence(4, 10, 64));
    const StepPlan plan = step(scheduler);
    EXPECT_EQ(plan.preempted, Ids{3});
    EXPECT_EQ(plan.chunks, (Chunks{{1, 64, 1}, {2, 64, 1}}));
    EXPECT_EQ(scheduler.sequence(3).computed, 0);
    scheduler.finish(2);
    // Of its two full pages the second had to go.
    const int64_t kept = prefix_cache ? 64 : 0;
    EXPECT_EQ(step(scheduler).chunks, (Chunks{{1, 65, 1}, {3, kept, 129 - kept}}));
    EXPECT_EQ(scheduler.counters().preemptions, 1);
    EXPECT_EQ(scheduler.counters().recomputed_tokens, 128 - kept);
    EXPECT_EQ(scheduler.counters().prefix_hit_tokens, 0);
  }
}

TEST(Scheduler, FinishFreesPagesAtOnce) {
  Scheduler scheduler({.step_tokens = 64, .pages = 20, .prefix_cache = false});
  scheduler.add(sequence(1, 500, 600));
  scheduler.add(sequence(2, 500, 600));
  const StepPlan plan = scheduler.plan();
  EXPECT_EQ(scheduler.free_pages(), 19 - 2 * 8);
  scheduler.finish(1);  // in the middle of its prompt, and of a step
  EXPECT_EQ(scheduler.free_pages(), 19 - 8);
  scheduler.complete(plan);
  scheduler.finish(2);
  EXPECT_EQ(scheduler.free_pages(), 19);
  scheduler.add(sequence(3, 10, 20));
  scheduler.finish(3);  // waiting
  EXPECT_EQ(scheduler.plan(), StepPlan{});
}

}  // namespace
}  // namespace tessera
