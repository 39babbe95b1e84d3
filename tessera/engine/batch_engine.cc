// The loop of steps.
#include "tessera/engine/batch_engine.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera {
namespace {

SchedulerOptions scheduler_options(const EngineOptions& options, const Model& model) {
  const int64_t step_tokens = options.step_tokens > 0 ? options.step_tokens : model.max_rows();
  if (step_tokens > model.max_rows()) {
    throw Error("a step of {} tokens is too long; at most {} run at once", step_tokens, model.max_rows());
  }
  return {.step_tokens = step_tokens,
          .max_sequences = std::min(options.max_sequences, step_tokens),
          .pages = options.pages,
          .prefix_cache = options.prefix_cache};
}

}  // namespace

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndOfText:
      return "end of text";
    case FinishReason::kStop:
      return "stop string";
    case FinishReason::kMaxTokens:
      return "token limit";
    case FinishReason::kContextFull:
      return "context full";
    case FinishReason::kNotFinite:
      return "logits that are not finite";
  }
  return "";
}

int64_t pages_for_sequences(int64_t sequences, int64_t tokens) {
  const int64_t pages = sequences * pages_for(tokens);
  return pages + pages / 50 + 2;  // page 0 is reserved, and admission leaves 1 % free
}

BatchEngine::BatchEngine(Model& model, const EngineOptions& options)
    : model_(model),
      scheduler_(scheduler_options(options, model)),
      pool_(model.make_kv_pool(options.pages)) {}

SequenceId BatchEngine::submit(Request request) {
  model_.check_ids(request.prompt);
  check_sampling(request.sampling);
  check_rules(request.rules, request.bias, model_.spec().vocab_size);
  const auto prompt = static_cast<int64_t>(request.prompt.size()), positions = model_.spec().max_positions;
  if (prompt > positions) {
    throw Error("{}: a prompt of {} tokens does not fit in the model's context of {}; shorten it",
                model_.dir().string(), prompt, positions);
  }
  if (request.max_tokens < 0) throw Error("{} tokens cannot be generated", request.max_tokens);
  const SequenceId id = next_id_++;
  Sequence sequence{.id = id, .ids = request.prompt, .owner = request.owner, .salt = request.salt};
  // The last id is drawn and never run, so it needs no position.
  sequence.max_length = std::min(prompt + request.max_tokens, positions + 1);
  if (request.score_from) sequence.reusable = *request.score_from;
  scheduler_.add(std::move(sequence));
  LogitEditor editor(request.rules, request.bias, request.prompt, request.ends);
  requests_.emplace(id, Running{std::move(request), std::move(editor)});
  return id;
}

void BatchEngine::cancel(SequenceId id) {
  auto request = requests_.extract(id);
  if (request.empty()) return;
  scheduler_.finish(id);
  ended_.push_back(std::move(request));
}

WantedLogits BatchEngine::wanted(const Sequence& sequence, const Request& request, const Chunk& chunk) const {
  int64_t from = chunk.count;
  if (draws(sequence, request, chunk)) from = chunk.count - 1;
  if (request.score_from) from = std::min(from, std::max<int64_t>(0, *request.score_from - chunk.first));
  return {from};
}

/// Whether the next id comes from the chunk's last row.
bool BatchEngine::draws(const Sequence& sequence, const Request& request, const Chunk& chunk) const {
  return request.max_tokens > 0 && chunk.first + chunk.count == std::ssize(sequence.ids);
}

Batch BatchEngine::make_batch() const {
  Batch batch;
  for (const Chunk& chunk : plan_.chunks) {
    const Sequence& sequence = scheduler_.sequence(chunk.sequence);
    const auto ids =
        std::span(sequence.ids).subspan(static_cast<size_t>(chunk.first), static_cast<size_t>(chunk.count));
    batch.add(ids, chunk.first, sequence.pages,
              wanted(sequence, requests_.at(chunk.sequence).request, chunk));
  }
  return batch;
}

bool BatchEngine::step() {
  ended_.clear();
  plan_ = scheduler_.plan();
  if (plan_.chunks.empty()) return false;
  const Batch batch = make_batch();
  model_.step(batch, *pool_);
  const std::map<SequenceId, int32_t> tokens = sample();
  show_logits(batch);
  scheduler_.complete(plan_);
  for (const Chunk& chunk : plan_.chunks) {
    const auto request = requests_.find(chunk.sequence);
    if (request == requests_.end()) continue;  // cancelled from one of the calls
    if (const auto token = tokens.find(chunk.sequence); token != tokens.end()) {
      take_token(chunk.sequence, token->second);
    } else if (request->second.request.max_tokens == 0 &&
               chunk.first + chunk.count == scheduler_.sequence(chunk.sequence).prompt_tokens) {
      finish(chunk.sequence, FinishReason::kMaxTokens);
    }
  }
  return true;
}

std::map<SequenceId, int32_t> BatchEngine::sample() {
  std::map<SequenceId, int32_t> tokens;
  std::vector<SequenceId> sequences;
  std::vector<Draw> draw;
  int64_t first = 0;  // wanted row of the first of them
  const auto flush = [&] {
    std::vector<int32_t> ids(draw.size());
    if (!draw.empty()) model_.sample(first, draw, ids);
    for (size_t i = 0; i < ids.size(); ++i) tokens[sequences[i]] = ids[i];
    sequences.clear();
    draw.clear();
  };
  int64_t row = 0;  // first wanted row of the chunk
  for (const Chunk& chunk : plan_.chunks) {
    const Sequence& sequence = scheduler_.sequence(chunk.sequence);
    const auto& [request, editor] = requests_.at(chunk.sequence);
    const int64_t rows = chunk.count - wanted(sequence, request, chunk).from;
    if (draws(sequence, request, chunk)) {
      const int64_t last = row + rows - 1;
      if (first + std::ssize(draw) != last) {
        flush();
        first = last;
      }
      sequences.push_back(chunk.sequence);
      draw.push_back({request.sampling,
                      static_cast<uint64_t>(std::ssize(sequence.ids) - sequence.prompt_tokens),
                      editor.edits()});
    }
    row += rows;
  }
  flush();
  return tokens;
}

void BatchEngine::show_logits(const Batch& batch) {
  int64_t begin = 0;
  for (int64_t i = 0; i < batch.sequences(); ++i) {
    const Chunk& chunk = plan_.chunks[static_cast<size_t>(i)];
    const int64_t first_row = batch.first_row[static_cast<size_t>(i)], end_row = first_row + chunk.count;
    int64_t end = begin;
    while (end < std::ssize(batch.logit_rows) && batch.logit_rows[static_cast<size_t>(end)] < end_row) ++end;
    for (int64_t row = begin; row < end;) {
      const auto found = requests_.find(chunk.sequence);
      if (found == requests_.end()) break;  // cancelled from one of the calls
      Request& request = found->second.request;
      const int64_t position = chunk.first + batch.logit_rows[static_cast<size_t>(row)] - first_row;
      if (!request.on_logits || !request.score_from || position < *request.score_from) break;
      const int64_t count = std::min(model_.max_logit_rows(), end - row);
      request.score_from = position + count;  // not again after a preemption
      request.on_logits(position, model_.logits(row, count));
      row += count;
    }
    begin = end;
  }
}

void BatchEngine::take_token(SequenceId id, int32_t token) {
  auto& [request, editor] = requests_.at(id);
  if (token == kNoToken) return finish(id, FinishReason::kNotFinite);
  if (request.on_token) request.on_token(token);
  if (!requests_.contains(id)) return;  // cancelled
  if (std::ranges::find(request.ends, token) != request.ends.end())
    return finish(id, FinishReason::kEndOfText);
  scheduler_.append(id, token);
  editor.push(token);
  const Sequence& sequence = scheduler_.sequence(id);
  const int64_t length = std::ssize(sequence.ids);
  if (length - sequence.prompt_tokens == request.max_tokens) {
    finish(id, FinishReason::kMaxTokens);
  } else if (length == sequence.max_length) {
    finish(id, FinishReason::kContextFull);
  }
}

void BatchEngine::finish(SequenceId id, FinishReason reason) {
  const auto on_finish = std::move(requests_.at(id).request.on_finish);
  cancel(id);
  if (on_finish) on_finish(reason);
}

}  // namespace tessera
