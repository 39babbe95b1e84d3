// What holds in every step of any trace: random arrivals, cancellations, lengths, owners, pools too small. A
// pool that is simulated shows that every position reads the keys and values of its own text.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "tessera/base/philox.h"
#include "tessera/engine/scheduler.h"

namespace tessera {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/// Whole numbers of one seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : seed_(seed) {}
  /// low ... high
  int64_t draw(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(uniform(seed_, index_++) * static_cast<double>(high - low + 1));
  }
  bool one_in(int64_t n) { return draw(1, n) == 1; }

 private:
  uint64_t seed_;
  uint64_t index_ = 0;
};

class Trace {
 public:
  explicit Trace(uint64_t seed) : dice_(seed), options_(draw_options()), scheduler_(options_) {}

  /// Throws std::runtime_error in the first step that breaks a rule.
  void run() {
    while (to_come_ > 0 || !texts_.empty()) {
      while (to_come_ > 0 && (dice_.one_in(3) || texts_.empty())) arrive();
      require(plans_.size() < 3000, "every sequence ends");
      const std::vector<SequenceId> before = running();
      plans_.push_back(scheduler_.plan());
      const StepPlan& plan = plans_.back();
      check_preemption(before, plan);
      check_admission(before, plan);
      check_chunks(plan);
      check_pages();
      execute(plan);
      if (dice_.one_in(20)) cancel_one();
      scheduler_.complete(plan);
      check_pages();
      go_on(plan);
      if (dice_.one_in(20) && !texts_.empty()) cancel_one();
      check_pages();
    }
    require(scheduler_.plan() == StepPlan{}, "the plan is empty when nothing is left");
    require(scheduler_.waiting() == 0 && scheduler_.running() == 0, "no sequence is left");
  }

  const std::vector<StepPlan>& plans() const { return plans_; }
  const SchedulerCounters& counters() const { return scheduler_.counters(); }

 private:
  /// What the keys and values of a position are a function of: all ids up to it.
  struct Text {
    std::vector<uint64_t> states;  ///< [ids]
    int64_t end;                   ///< finished with so many ids
  };

  SchedulerOptions draw_options() {
    to_come_ = dice_.draw(1, 10);
    return {.step_tokens = dice_.one_in(2) ? dice_.draw(1, 40) : dice_.draw(60, 300),
            .max_sequences = dice_.draw(1, 9),
            .pages = dice_.draw(4, 12),
            .prefix_cache = !dice_.one_in(3)};
  }

  const Sequence& sequence(SequenceId id) const { return scheduler_.sequence(id); }
  static int64_t length(const Sequence& s) { return std::ssize(s.ids); }
  static bool runs(const Sequence& s) { return !s.pages.empty(); }
  static bool is_decode_row(const Sequence& s, const Chunk& c) {
    return c.count == 1 && c.first + 1 == length(s);
  }
  static uint64_t next_state(uint64_t state, int32_t id) {
    return (state ^ static_cast<uint64_t>(id)) * 0x9E3779B97F4A7C15u + 1;
  }

  /// Ids count up, so the first to come is the lowest.
  std::vector<SequenceId> running() const {
    std::vector<SequenceId> ids;
    for (const auto& [id, text] : texts_) {
      if (runs(sequence(id))) ids.push_back(id);
    }
    return ids;
  }

  /// Prompts that end near a page boundary meet more cases than others.
  void arrive() {
    --to_come_;
    const int64_t pool = (options_.pages - 1) * kPageTokens;
    Sequence s{.id = ++last_id_,
               .owner = static_cast<int32_t>(dice_.draw(0, 2)),
               .salt = static_cast<uint64_t>(dice_.draw(0, 1))};
    const int64_t prompt =
        std::clamp<int64_t>(dice_.draw(0, dice_.draw(1, 4)) * kPageTokens + dice_.draw(-3, 3), 1, pool - 1);
    const bool is_scored = dice_.one_in(5);
    if (is_scored) s.reusable = dice_.draw(0, prompt);
    const int64_t common = dice_.draw(0, 3) * kPageTokens;
    for (int64_t i = 0; i < prompt; ++i) {
      s.ids.push_back(static_cast<int32_t>(i < common ? i : i + 1000 * dice_.draw(1, 1 + to_come_ % 2)));
    }
    s.max_length = std::min(pool, prompt + (dice_.one_in(4) ? dice_.draw(1, 100) : dice_.draw(1, 8)));
    Text text{.states = {}, .end = dice_.draw(prompt + 1, s.max_length)};
    if (is_scored && dice_.one_in(2)) text.end = s.max_length = prompt;
    for (const int32_t id : s.ids) extend(text, s.salt, id);
    scheduler_.add(s);
    texts_.emplace(s.id, std::move(text));
  }

  static void extend(Text& text, uint64_t salt, int32_t id) {
    text.states.push_back(next_state(text.states.empty() ? salt : text.states.back(), id));
  }

  void end(SequenceId id) {
    scheduler_.finish(id);
    texts_.erase(id);
  }

  void cancel_one() {
    auto text = texts_.begin();
    std::advance(text, dice_.draw(0, std::ssize(texts_) - 1));
    end(text->first);
  }

  void check_preemption(const std::vector<SequenceId>& before, const StepPlan& plan) const {
    require(plan.preempted.size() < before.size() || before.empty(), "the oldest is not preempted");
    for (size_t i = 0; i < plan.preempted.size(); ++i) {
      require(plan.preempted[i] == before[before.size() - 1 - i], "the youngest are preempted");
    }
    for (const SequenceId id : plan.preempted) require(!runs(sequence(id)), "the preempted wait");
    const auto runs_on = [&](const Chunk& c) { return c.sequence == before.front(); };
    require(before.empty() || std::any_of(plan.chunks.begin(), plan.chunks.end(), runs_on),
            "the oldest goes on");
    require(!plan.chunks.empty(), "there is a step while there are sequences");
  }

  void check_admission(const std::vector<SequenceId>& before, const StepPlan& plan) const {
    require(scheduler_.running() <= static_cast<size_t>(options_.max_sequences), "sequences at once");
    std::vector<SequenceId> admitted = running();
    std::erase_if(admitted,
                  [&](SequenceId id) { return std::binary_search(before.begin(), before.end(), id); });
    require(admitted.empty() || plan.preempted.empty(), "who is preempted makes no room for others");
    for (const SequenceId id : admitted) {
      const Sequence& s = sequence(id);
      require(std::ssize(s.pages) == pages_for(length(s)), "pages for the whole prompt");
      require(s.computed % kPageTokens == 0 && s.computed < length(s), "whole pages come from the cache");
      require(s.computed == 0 || (options_.prefix_cache && s.computed <= s.reusable),
              "the cache is asked for");
      for (const auto& [other, text] : texts_) {
        require(other > id || sequence(other).owner != s.owner || runs(sequence(other)), "first come first");
      }
    }
    if (admitted.size() == 1 && scheduler_.running() > 1) {
      const Sequence& s = sequence(admitted.front());
      const int64_t answer = std::min<int64_t>(s.max_length - length(s), 64);
      require(scheduler_.free_pages() + scheduler_.cached_pages() >=
                  pages_for(length(s) + answer) - pages_for(length(s)),
              "room for the answer");
    }
  }

  void check_chunks(const StepPlan& plan) const {
    int64_t left = options_.step_tokens;
    bool is_prompt = false;
    bool has_unfinished = false;
    std::vector<SequenceId> seen;
    for (const Chunk& c : plan.chunks) {
      const Sequence& s = sequence(c.sequence);
      require(runs(s) && c.count >= 1 && c.first == s.computed && c.first + c.count <= length(s),
              "chunks are what comes next");
      seen.push_back(c.sequence);
      left -= c.count;
      require(!is_prompt || !is_decode_row(s, c), "decode rows come first");
      is_prompt = !is_decode_row(s, c);
      const int64_t end = c.first + c.count;
      require(end == length(s) || end % kPageTokens == 0 || end / kPageTokens == c.first / kPageTokens,
              "whole pages where one is complete");
      has_unfinished |= end < length(s);
    }
    require(left >= 0, "the budget is kept");
    require(!has_unfinished || left < kPageTokens, "the budget is used");
    std::sort(seen.begin(), seen.end());
    require(std::adjacent_find(seen.begin(), seen.end()) == seen.end(), "one chunk a sequence");
    for (const SequenceId id : running()) {
      const Sequence& s = sequence(id);
      require(s.computed + 1 != length(s) || std::binary_search(seen.begin(), seen.end(), id),
              "every sequence that generates has a row");
    }
  }

  /// No page is lost, and those that several hold are full and of one text.
  void check_pages() const {
    struct Holder {
      const Text* text = nullptr;
      size_t index = 0;
      bool is_full = false;
    };
    std::vector<Holder> holders(static_cast<size_t>(options_.pages));
    int64_t held = 0;
    for (const auto& [id, text] : texts_) {
      const Sequence& s = sequence(id);
      require(std::ssize(s.pages) * kPageTokens >= s.computed, "what is computed has a page");
      for (size_t i = 0; i < s.pages.size(); ++i) {
        require(s.pages[i] > 0 && s.pages[i] < options_.pages, "page 0 is reserved");
        Holder& holder = holders[static_cast<size_t>(s.pages[i])];
        const size_t last = (i + 1) * kPageTokens - 1;
        const bool is_full = s.computed > static_cast<int64_t>(last);
        if (holder.text == nullptr) {
          holder = {&text, i, is_full};
          ++held;
        } else {
          require(holder.is_full && is_full && holder.index == i, "shared pages are full");
          require(holder.text->states[last] == text.states[last], "shared pages are of one text");
        }
      }
    }
    require(scheduler_.free_pages() + held + scheduler_.cached_pages() == options_.pages - 1,
            "no page is lost");
    require(options_.prefix_cache || scheduler_.cached_pages() == 0, "no cache, no cached pages");
  }

  /// Each position writes what its keys and values depend on, and must find the same of all before it.
  void execute(const StepPlan& plan) {
    pool_.resize(static_cast<size_t>(options_.pages * kPageTokens));
    for (const Chunk& c : plan.chunks) {
      const Sequence& s = sequence(c.sequence);
      const Text& text = texts_.at(c.sequence);
      for (int64_t i = 0; i < c.first + c.count; ++i) {
        const size_t at = static_cast<size_t>(i);
        uint64_t& slot =
            pool_[static_cast<size_t>(s.pages[at / kPageTokens] * kPageTokens + i % kPageTokens)];
        if (i >= c.first) slot = text.states[at];
        require(slot == text.states[at], "a sequence reads its own text");
      }
    }
  }

  /// Next ids are a function of the text, so equal texts stay equal and come to share pages.
  void go_on(const StepPlan& plan) {
    for (const Chunk& c : plan.chunks) {
      const auto found = texts_.find(c.sequence);
      if (found == texts_.end()) continue;
      Text& text = found->second;
      const Sequence& s = sequence(c.sequence);
      require(s.computed == c.first + c.count, "what has run is computed");
      if (s.computed < length(s)) continue;
      if (length(s) == text.end) {
        end(c.sequence);
      } else {
        const int32_t id = static_cast<int32_t>(text.states.back() >> 60);
        scheduler_.append(c.sequence, id);
        extend(text, s.salt, id);
      }
    }
  }

  Dice dice_;
  int64_t to_come_ = 0;
  SchedulerOptions options_;
  Scheduler scheduler_;
  SequenceId last_id_ = 0;
  std::map<SequenceId, Text> texts_;  ///< of all sequences that have not ended
  std::vector<StepPlan> plans_;
  std::vector<uint64_t> pool_;  ///< [pages][kPageTokens]
};

TEST(SchedulerTrace, AllRulesHoldInEveryStep) {
  SchedulerCounters sum;
  for (uint64_t seed = 0; seed < 100000; ++seed) {
    Trace trace(seed);
    try {
      trace.run();
    } catch (const std::exception& e) {
      FAIL() << "seed " << seed << ", step " << trace.plans().size() << ": " << e.what();
    }
    sum.preemptions += trace.counters().preemptions;
    sum.recomputed_tokens += trace.counters().recomputed_tokens;
    sum.prefix_hit_tokens += trace.counters().prefix_hit_tokens;
    if (seed % 50 == 0) {
      Trace again(seed);
      again.run();
      ASSERT_EQ(again.plans(), trace.plans()) << "seed " << seed;
    }
  }
  // The traces do meet what they are for.
  EXPECT_GT(sum.preemptions, 2000);
  EXPECT_GT(sum.recomputed_tokens, 100000);
  EXPECT_GT(sum.prefix_hit_tokens, 100000);
}

/// Each owner sends sequences of its own kind, and always has more of them waiting than can run.
TEST(SchedulerTrace, OwnersGetEqualSharesUnderLoad) {
  struct Load {
    int64_t prompt, answer;
    int64_t waiting = 0, tokens = 0;
  };
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Dice dice(seed);
    Scheduler scheduler({.step_tokens = dice.draw(64, 512),
                         .max_sequences = dice.draw(8, 64),
                         .pages = dice.draw(40, 200),
                         .prefix_cache = false});
    std::vector<Load> loads(static_cast<size_t>(dice.draw(2, 4)));
    for (Load& load : loads) load = {dice.draw(1, 600), dice.draw(1, 200)};
    SequenceId last_id = 0;
    int64_t tokens = 0;
    while (tokens < 400000) {
      for (size_t owner = 0; owner < loads.size(); ++owner) {
        Load& load = loads[owner];
        for (; load.waiting < 65; ++load.waiting) {
          const int64_t prompt = dice.draw(1, load.prompt);
          scheduler.add({.id = ++last_id,
                         .ids = std::vector<int32_t>(static_cast<size_t>(prompt), 0),
                         .max_length = prompt + load.answer,
                         .owner = static_cast<int32_t>(owner)});
        }
      }
      const StepPlan plan = scheduler.plan();
      scheduler.complete(plan);
      for (const SequenceId id : plan.preempted) {
        ++loads[static_cast<size_t>(scheduler.sequence(id).owner)].waiting;
      }
      for (const Chunk& c : plan.chunks) {
        const Sequence& s = scheduler.sequence(c.sequence);
        Load& load = loads[static_cast<size_t>(s.owner)];
        if (c.first == 0) --load.waiting;
        load.tokens += c.count;
        tokens += c.count;
        if (s.computed < std::ssize(s.ids)) continue;
        if (std::ssize(s.ids) == s.max_length || dice.one_in(load.answer)) {
          scheduler.finish(s.id);
        } else {
          scheduler.append(s.id, 0);
        }
      }
    }
    const auto [least, most] = std::minmax_element(
        loads.begin(), loads.end(), [](const Load& a, const Load& b) { return a.tokens < b.tokens; });
    EXPECT_LE(static_cast<double>(most->tokens), 1.02 * static_cast<double>(least->tokens))
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace tessera
