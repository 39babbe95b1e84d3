// Choices as requests to the engine.
#include "tessera/tasks/choice_scoring.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tessera/base/error.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/engine/batch_engine.h"
#include "tessera/eval/logit_statistics.h"

namespace tessera {
namespace {

/// Choices with the same ids but for the last one: one run judges them all.
struct Run {
  std::vector<int32_t> prompt;  ///< without the last id
  int64_t first = 0;            ///< id that is scored
  size_t item = 0;
  std::vector<std::pair<size_t, int32_t>> choices;  ///< with their last ids
};

/// The runs of one item.
std::vector<Run> runs_of(size_t item, const std::vector<EncodedChoice>& choices) {
  std::vector<Run> runs;
  for (size_t i = 0; i < choices.size(); ++i) {
    const std::vector<int32_t>& ids = choices[i].ids;
    if (choices[i].scored == 0) continue;  // nothing to judge: 0 nats
    const std::vector<int32_t> prompt(ids.begin(), ids.end() - 1);
    const auto first = static_cast<int64_t>(ids.size() - choices[i].scored);
    auto run =
        std::ranges::find_if(runs, [&](const Run& r) { return r.prompt == prompt && r.first == first; });
    if (run == runs.end()) run = runs.insert(runs.end(), Run{prompt, first, item, {}});
    run->choices.emplace_back(i, ids.back());
  }
  return runs;
}

/// Feeds the engine, a few items at a time. The first run of an item goes ahead of its others, which then
/// find its pages in the prefix cache.
class Scorer {
 public:
  Scorer(Model& model, EncodedItems items, std::string_view progress, Reporter& reporter)
      : items_(std::move(items)),
        progress_(progress),
        reporter_(reporter),
        vocab_(static_cast<size_t>(model.spec().vocab_size)),
        ahead_(2 * model.max_rows()),
        engine_(model, engine_options(model, items_)) {
    for (const auto& choices : items_) scores_.emplace_back(choices.size(), 0.0);
  }

  std::vector<std::vector<double>> score() {
    feed();
    while (engine_.step()) feed();
    return std::move(scores_);
  }

 private:
  static EngineOptions engine_options(const Model& model, const EncodedItems& items) {
    size_t longest = 1;
    for (const auto& choices : items) {
      for (const EncodedChoice& choice : choices) longest = std::max(longest, choice.ids.size());
    }
    return {.pages = pages_for_sequences(4, std::max(model.max_rows(), static_cast<int64_t>(longest)))};
  }

  void feed() {
    for (Run& run : std::exchange(followers_, {})) submit(std::move(run), {});
    for (; next_ < items_.size() && waiting_ < ahead_; ++next_) {
      std::vector<Run> runs = runs_of(next_, items_[next_]);
      open_.push_back(runs.size());
      if (runs.empty()) {
        item_done();
        continue;
      }
      Run leader = std::move(runs.front());
      runs.erase(runs.begin());
      submit(std::move(leader), std::move(runs));
    }
  }

  /// `others` follow when it has ended.
  void submit(Run run, std::vector<Run> others) {
    const auto tokens = std::ssize(run.prompt);
    waiting_ += tokens;
    Request request{.prompt = run.prompt, .max_tokens = 0, .score_from = run.first - 1};
    request.on_finish = [this, tokens, item = run.item, others = std::move(others)](FinishReason) {
      waiting_ -= tokens;
      followers_.insert(followers_.end(), others.begin(), others.end());
      if (--open_[item] == 0) item_done();
    };
    request.on_logits = [this, run = std::move(run)](int64_t first, std::span<const float> logits) {
      add(run, first, logits);
    };
    engine_.submit(std::move(request));
  }

  /// Logits behind the ids first, first + 1, ... of a run.
  void add(const Run& run, int64_t first, std::span<const float> logits) {
    const auto row = [&](size_t i) { return logits.subspan(i * vocab_, vocab_); };
    std::vector<double>& scores = scores_[run.item];
    for (size_t i = 0; i < logits.size() / vocab_; ++i) {
      const size_t next = static_cast<size_t>(first) + i + 1;
      for (const auto& [choice, last] : run.choices) {
        const int32_t id = next < run.prompt.size() ? run.prompt[next] : last;
        scores[choice] -= negative_log_likelihood(row(i), id);
      }
    }
  }

  void item_done() { reporter_.progress(progress_, ++finished_, std::ssize(items_)); }

  const EncodedItems items_;
  const std::string_view progress_;
  Reporter& reporter_;
  const size_t vocab_;
  const int64_t ahead_;         ///< tokens that wait before no more items begin
  int64_t waiting_ = 0;         ///< tokens of the runs that have been submitted and have not ended
  size_t next_ = 0;             ///< item to begin
  int64_t finished_ = 0;        ///< items
  std::vector<size_t> open_;    ///< runs of each item that have not ended
  std::vector<Run> followers_;  ///< whose leaders have ended
  std::vector<std::vector<double>> scores_;
  BatchEngine engine_;
};

}  // namespace

EncodedChoice encode_choice(const Tokenizer& tokenizer, const TaskItem::Choice& choice,
                            int64_t max_positions) {
  const std::string_view context = jinja::strip(choice.context, jinja::Side::kRight);
  EncodedChoice out;
  if (context.empty()) {
    const std::optional<int32_t> begin = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
    const std::string whole = choice.context + choice.continuation;
    out.ids = tokenizer.encode(whole, /*add_special_tokens=*/false);
    // The first id is not judged: where the tokenizer has no id to begin with, that of the text itself.
    if (begin && (out.ids.empty() || out.ids.front() != *begin)) out.ids.insert(out.ids.begin(), *begin);
    out.scored = out.ids.empty() ? 0 : out.ids.size() - 1;
  } else {
    out.ids = tokenizer.encode(choice.context + choice.continuation, /*add_special_tokens=*/true);
    const size_t known = tokenizer.encode(context, /*add_special_tokens=*/true).size();
    out.scored = out.ids.size() - std::min(known, out.ids.size());
  }
  const auto most = static_cast<size_t>(max_positions) + 1;
  if (out.scored >= most) {
    throw Error("a continuation of {} tokens does not fit in the model's context of {}", out.scored,
                max_positions);
  }
  if (out.ids.size() > most)
    out.ids.erase(out.ids.begin(), out.ids.end() - static_cast<std::ptrdiff_t>(most));
  return out;
}

EncodedItems encode_items(const Tokenizer& tokenizer, const std::vector<TaskItem>& items,
                          int64_t max_positions, std::string_view task) {
  EncodedItems encoded(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    try {
      for (const TaskItem::Choice& choice : items[i].choices) {
        encoded[i].push_back(encode_choice(tokenizer, choice, max_positions));
      }
    } catch (const Error& e) {
      throw Error("task {}: document {}: {}", task, i + 1, e.what());
    }
  }
  return encoded;
}

std::vector<std::vector<double>> score_choices(Model& model, EncodedItems items, std::string_view progress,
                                               Reporter& reporter) {
  std::vector<std::vector<double>> scores = Scorer(model, std::move(items), progress, reporter).score();
  for (const auto& of_item : scores) {
    if (!std::ranges::all_of(of_item, [](double x) { return std::isfinite(x); })) {
      throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                  model.dir().string());
    }
  }
  return scores;
}

}  // namespace tessera
