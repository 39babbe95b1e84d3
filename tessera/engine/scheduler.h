// What runs in the next step. Continuous batching with chunked prompts over a pool of pages.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "tessera/engine/page_allocator.h"
#include "tessera/engine/prefix_cache.h"
#include "tessera/engine/sequence.h"

namespace tessera {

struct SchedulerOptions {
  int64_t step_tokens = 256;    ///< positions that run in one step at most, >= 1
  int64_t max_sequences = 256;  ///< running at once, >= 1
  int64_t pages = 0;            ///< of the pool, page 0 too; >= 2
  bool prefix_cache = true;
};

/// Positions first ... first + count - 1 of a sequence run in this step.
struct Chunk {
  SequenceId sequence = 0;
  int64_t first = 0;
  int64_t count = 0;
  bool operator==(const Chunk&) const = default;
};

struct StepPlan {
  std::vector<Chunk> chunks = {};  ///< decode rows (the one position is the last id), then chunks of prompts
  std::vector<SequenceId> preempted = {};  ///< lost their pages and wait again; what they had is recomputed
  bool operator==(const StepPlan&) const = default;
};

struct SchedulerCounters {
  int64_t preemptions = 0;
  int64_t recomputed_tokens = 0;  ///< computed before a preemption and not found in the prefix cache after it
  int64_t prefix_hit_tokens = 0;  ///< found in the prefix cache and never computed by the sequence itself
};

/// Decides, and touches no device, clock or random number: the same calls give the same plans. Each step is
/// plan(), the run of its chunks, complete(), and append() or finish() for every sequence whose ids are then
/// all computed, as their logits give its next id.
///
/// One position runs for every sequence that generates; the rest of the step goes to prompts, oldest first.
/// A prompt is admitted when the pool holds all of it and some of its answer. When the pool is full, the
/// youngest sequence is preempted; the oldest never is, so it ends, and by and by all do.
class Scheduler {
 public:
  /// Throws Error when an option is out of range.
  explicit Scheduler(const SchedulerOptions& options);

  /// Puts a sequence (id, ids, max_length, owner, salt, reusable) at the end of its owner's queue.
  /// Throws Error when the prompt is empty or longer than max_length, when the pool cannot hold max_length
  /// ids, or when the id is in use.
  void add(Sequence sequence);

  /// Reserves pages, admits and preempts. Empty only when no sequence is left.
  StepPlan plan();
  /// The plan has run: its positions are computed, their full pages enter the prefix cache. Sequences that
  /// have been finished since are passed over.
  void complete(const StepPlan& plan);

  /// The next id of a sequence whose ids are all computed and fewer than max_length.
  void append(SequenceId sequence, int32_t id);
  /// Forgets a sequence, waiting or running, at any time; its pages are free at once. Throws Error when it is
  /// not known.
  void finish(SequenceId sequence);

  /// Valid until the sequence is finished. Throws Error when it is not known.
  const Sequence& sequence(SequenceId sequence) const { return state(sequence).sequence; }
  size_t waiting() const { return states_.size() - running_.size(); }
  size_t running() const { return running_.size(); }
  const SchedulerCounters& counters() const { return counters_; }

  int64_t free_pages() const { return pages_.free_pages(); }
  /// Pages of no sequence that the prefix cache keeps until they are needed.
  int64_t cached_pages() const { return cache_.idle_pages(); }

 private:
  struct State {
    Sequence sequence;
    uint64_t arrival = 0;
    int64_t lost = 0;  ///< positions that were computed when it was preempted
  };
  struct Owner {
    std::deque<State*> queue = {};  ///< oldest first
    int64_t credit = 0;             ///< tokens that it may still run in its turn; below 0 when it ran more
  };

  State& state(SequenceId sequence) const;
  /// Gives every running sequence pages for all its ids, for which others may lose theirs.
  void reserve_pages(StepPlan& plan);
  void preempt_youngest(StepPlan& plan);
  int32_t take_page();
  std::vector<Chunk> plan_prompts(int64_t budget, bool admits);
  /// Starts the next waiting sequence; null when there is none or no room for it.
  const Sequence* admit();
  Owner& next_owner();
  void wait(State& state, bool first);
  void leave_queue(State& state);
  void free_pages_of(State& state);

  SchedulerOptions options_;
  PageAllocator pages_;
  PrefixCache cache_;
  std::unordered_map<SequenceId, std::unique_ptr<State>> states_;
  std::vector<State*> running_;  ///< oldest first
  std::map<int32_t, Owner> owners_;
  std::deque<int32_t> round_;  ///< owners with a queue, the one whose turn it is first
  uint64_t arrivals_ = 0;
  SchedulerCounters counters_;
};

}  // namespace tessera
