// What runs in the next step. Continuous batching with chunked prompts over a pool of pages.
#include "tessera/engine/scheduler.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <span>

#include "tessera/base/error.h"

namespace tessera {
namespace {

/// Tokens of its answer for which a sequence must find room to be admitted.
constexpr int64_t kAnswerTokens = 64;

int64_t length_of(const Sequence& sequence) {
  return std::ssize(sequence.ids);
}

/// Whether the last id is all that has to run.
bool is_decode_row(const Sequence& sequence) {
  return sequence.computed + 1 == length_of(sequence);
}

/// How many of the positions first ... end - 1 run, at most `limit`: all of them or up to a page boundary,
/// where that is in reach.
int64_t chunk_tokens(int64_t first, int64_t end, int64_t limit) {
  if (end - first <= limit) return end - first;
  const int64_t boundary = (first + limit) / kPageTokens * kPageTokens;
  return boundary > first ? boundary - first : limit;
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), pages_(options.pages), cache_(pages_, options.prefix_cache) {
  if (options.step_tokens < 1) {
    throw Error("{} tokens a step are out of range: 1 or more", options.step_tokens);
  }
  if (options.max_sequences < 1) {
    throw Error("{} sequences at once are out of range: 1 or more", options.max_sequences);
  }
}

void Scheduler::add(Sequence sequence) {
  const int64_t length = length_of(sequence);
  if (length == 0) throw Error("sequence {}: the prompt is empty; give at least one id", sequence.id);
  if (length > sequence.max_length) {
    throw Error("sequence {}: a prompt of {} ids is longer than the {} ids that it may have; shorten it",
                sequence.id, length, sequence.max_length);
  }
  const int64_t usable = pages_.total() - 1;
  if (pages_for(sequence.max_length) > usable) {
    throw Error("sequence {}: {} ids do not fit in the KV pool, which holds {}; allow fewer or enlarge it",
                sequence.id, sequence.max_length, usable * kPageTokens);
  }
  sequence.prompt_tokens = length;
  std::unique_ptr<State>& place = states_[sequence.id];
  if (place) throw Error("sequence {} is here already; give each its own id", sequence.id);
  place = std::make_unique<State>(State{std::move(sequence), arrivals_++});
  wait(*place, /*first=*/false);
}

StepPlan Scheduler::plan() {
  StepPlan plan;
  reserve_pages(plan);
  for (const State* state : running_) {
    const Sequence& s = state->sequence;
    if (is_decode_row(s)) plan.chunks.push_back({s.id, s.computed, 1});
  }
  // Nobody comes in on pages that were taken from another for the sake of an older one.
  const std::vector<Chunk> prompts =
      plan_prompts(options_.step_tokens - std::ssize(plan.chunks), /*admits=*/plan.preempted.empty());
  plan.chunks.insert(plan.chunks.end(), prompts.begin(), prompts.end());
  // A prompt of which the cache holds all but the last position is a decode row, too.
  std::stable_partition(plan.chunks.begin(), plan.chunks.end(),
                        [this](const Chunk& c) { return is_decode_row(sequence(c.sequence)); });
  for (const Chunk& chunk : plan.chunks) owners_[sequence(chunk.sequence).owner].credit -= chunk.count;
  if (round_.empty()) {
    // Where nobody waits, nobody has taken another's turn.
    for (auto& [name, owner] : owners_) owner.credit = 0;
  }
  return plan;
}

void Scheduler::reserve_pages(StepPlan& plan) {
  // The youngest leave at the end of running_, in the worst case the one that asks.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = running_[i]->sequence;
    while (i < running_.size() && std::ssize(s.pages) < pages_for(length_of(s))) {
      if (free_pages() + cached_pages() > 0) {
        s.pages.push_back(take_page());
      } else {
        preempt_youngest(plan);
      }
    }
  }
}

void Scheduler::preempt_youngest(StepPlan& plan) {
  // Alone, a sequence has the whole pool, which holds max_length ids of it.
  assert(running_.size() > 1);
  State& state = *running_.back();
  running_.pop_back();
  free_pages_of(state);
  state.lost = state.sequence.computed;
  state.sequence.computed = 0;
  wait(state, /*first=*/true);
  plan.preempted.push_back(state.sequence.id);
  ++counters_.preemptions;
}

int32_t Scheduler::take_page() {
  if (free_pages() == 0) cache_.evict();
  return pages_.allocate();
}

std::vector<Chunk> Scheduler::plan_prompts(int64_t budget, bool admits) {
  // A prompt gets three quarters, so that a short one passes a long one ...
  const int64_t share = budget - budget / 4;
  std::vector<Chunk> chunks;
  const auto begin = [&](const Sequence& s) {
    const int64_t count = chunk_tokens(s.computed, length_of(s), std::min(share, budget));
    chunks.push_back({s.id, s.computed, count});
    budget -= count;
  };
  for (const State* state : running_) {
    const Sequence& s = state->sequence;
    if (budget > 0 && s.computed + 1 < length_of(s)) begin(s);
  }
  while (admits && budget > 0) {
    const Sequence* s = admit();
    if (s == nullptr) break;
    begin(*s);
  }
  // ... and then what the others have left.
  for (Chunk& chunk : chunks) {
    const int64_t count =
        chunk_tokens(chunk.first, length_of(sequence(chunk.sequence)), chunk.count + budget);
    budget -= count - chunk.count;
    chunk.count = count;
  }
  return chunks;
}

const Sequence* Scheduler::admit() {
  if (round_.empty() || std::ssize(running_) >= options_.max_sequences) return nullptr;
  State& state = *next_owner().queue.front();
  Sequence& s = state.sequence;
  const int64_t length = length_of(s);
  // The last position runs in any case, since its logits give the next id.
  const auto reusable = static_cast<size_t>(std::min(length - 1, s.reusable));
  std::vector<int32_t> chain = cache_.find(s.salt, std::span(s.ids).first(reusable));

  // The first in turn waits until it fits, and the others behind it: else small ones would keep the pool full
  // for ever.
  const int64_t wanted =
      pages_for(length + std::min(s.max_length - length, kAnswerTokens)) - std::ssize(chain);
  const int64_t spare = pages_.total() / 100;
  if (!running_.empty() && wanted + spare > free_pages() + cached_pages()) {
    cache_.release(chain);
    return nullptr;
  }

  leave_queue(state);
  s.pages = std::move(chain);
  s.computed = std::ssize(s.pages) * kPageTokens;
  if (length == s.prompt_tokens) s.cached = s.computed;
  while (std::ssize(s.pages) < pages_for(length)) s.pages.push_back(take_page());
  counters_.recomputed_tokens += std::max<int64_t>(0, state.lost - s.computed);
  counters_.prefix_hit_tokens += std::max<int64_t>(0, s.computed - state.lost);
  const auto younger = std::find_if(running_.begin(), running_.end(),
                                    [&](const State* other) { return other->arrival > state.arrival; });
  running_.insert(younger, &state);
  return &s;
}

Scheduler::Owner& Scheduler::next_owner() {
  // Deficit round robin: who has used up its credit gets as much as all others and makes way.
  while (owners_[round_.front()].credit <= 0) {
    owners_[round_.front()].credit += options_.step_tokens;
    std::rotate(round_.begin(), round_.begin() + 1, round_.end());
  }
  return owners_[round_.front()];
}

void Scheduler::wait(State& state, bool first) {
  const int32_t name = state.sequence.owner;
  std::deque<State*>& queue = owners_[name].queue;
  if (queue.empty()) round_.push_back(name);
  queue.insert(first ? queue.begin() : queue.end(), &state);
}

void Scheduler::leave_queue(State& state) {
  const int32_t name = state.sequence.owner;
  std::deque<State*>& queue = owners_[name].queue;
  std::erase(queue, &state);
  if (queue.empty()) std::erase(round_, name);
}

void Scheduler::free_pages_of(State& state) {
  cache_.release(state.sequence.pages);
  state.sequence.pages.clear();
}

void Scheduler::complete(const StepPlan& plan) {
  for (const Chunk& chunk : plan.chunks) {
    const auto found = states_.find(chunk.sequence);
    if (found == states_.end()) continue;
    Sequence& s = found->second->sequence;
    assert(s.computed == chunk.first);
    s.computed += chunk.count;
    const size_t full = static_cast<size_t>(s.computed / kPageTokens);
    cache_.insert(s.salt, std::span(s.ids).first(full * kPageTokens), std::span(s.pages).first(full));
  }
}

void Scheduler::append(SequenceId sequence, int32_t id) {
  Sequence& s = state(sequence).sequence;
  assert(s.computed == length_of(s) && length_of(s) < s.max_length);
  s.ids.push_back(id);
}

void Scheduler::finish(SequenceId sequence) {
  State& s = state(sequence);
  if (std::erase(running_, &s) > 0) {
    free_pages_of(s);
  } else {
    leave_queue(s);
  }
  states_.erase(sequence);
}

Scheduler::State& Scheduler::state(SequenceId sequence) const {
  const auto found = states_.find(sequence);
  if (found == states_.end())
    throw Error("sequence {} is not known; it was never added or has ended", sequence);
  return *found->second;
}

}  // namespace tessera
