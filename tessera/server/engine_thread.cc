// The loop: commands, a step, its news.
#include "tessera/server/engine_thread.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/base/stopwatch.h"

namespace tessera {
namespace {

ApiError shutting_down() {
  return ApiError::overloaded(503, "draining", "the server is shutting down", 5);
}

}  // namespace

EngineThread::EngineThread(Model& model, const EngineOptions& options, const QueueLimits& limits,
                           Metrics& metrics, Reporter& log)
    : model_(model),
      engine_(model, options),
      limits_(limits),
      metrics_(metrics),
      log_(log),
      total_pages_(options.pages - 1),  // page 0 is never handed out
      thread_([this, threads = thread_count()] { run(threads); }) {}

void EngineThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = draining_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void EngineThread::command(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(call));
  }
  wake_.notify_one();
}

EngineThread::JobId EngineThread::submit(Job job) {
  auto active = std::make_unique<ActiveJob>();
  active->choices.resize(job.choices.size());
  active->open = job.choices.size();
  for (const Request& choice : job.choices) active->prompt_tokens += std::ssize(choice.prompt);
  active->job = std::move(job);
  JobId id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (draining_) throw shutting_down();
    if (queued_jobs_ >= limits_.jobs ||
        (queued_jobs_ > 0 && queued_tokens_ + active->prompt_tokens > limits_.tokens)) {
      const double seconds = std::ceil(static_cast<double>(queued_jobs_) * seconds_a_job_);
      throw ApiError::overloaded(429, "queue_full",
                                 fmt::format("{} requests wait already; try again later", queued_jobs_),
                                 static_cast<int>(std::clamp(seconds, 1.0, 60.0)));
    }
    id = active->id = next_id_++;
    ++queued_jobs_;
    ++active_jobs_;
    queued_tokens_ += active->prompt_tokens;
  }
  // std::function wants to be copied, so that ownership passes through a shared pointer.
  auto parcel = std::make_shared<std::unique_ptr<ActiveJob>>(std::move(active));
  command([this, id, parcel] {
    ActiveJob& entered = *(jobs_[id] = std::move(*parcel));
    for (size_t i = 0; i < entered.choices.size(); ++i) {
      if (!entered.job.behind.contains(i)) ready_.emplace_back(id, i);
    }
  });
  return id;
}

void EngineThread::cancel(JobId id, std::optional<size_t> choice, const char* cause) {
  command([this, id, choice, cause] {
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) return;
    ActiveJob& job = *found->second;
    for (size_t i = 0; i < job.choices.size(); ++i) {
      if (!choice || *choice == i) end_choice(job, i);
    }
    if (!choice) metrics_.count("cancelled_total", 1, fmt::format("cause=\"{}\"", cause));
    if (job.open == 0) forget(id);
  });
}

void EngineThread::drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  command([this] { fail_all(shutting_down(), "shutdown", /*waiting_only=*/true); });
}

bool EngineThread::idle() const {
  const std::lock_guard lock(mutex_);
  return active_jobs_ == 0;
}

EngineStatus EngineThread::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void EngineThread::run(int threads) {
  set_thread_count(threads);  // OpenMP keeps the number for each thread
  update_status();
  while (obey_commands()) {
    try {
      step();
    } catch (const std::exception& e) {
      log_.note(fmt::format("the engine failed: {}", e.what()));
      fail_all(ApiError::internal("internal", fmt::format("the engine failed: {}", e.what())), "error",
               false);
    }
    update_status();
  }
  fail_all(shutting_down(), "shutdown", /*waiting_only=*/false);
}

bool EngineThread::obey_commands() {
  std::vector<std::function<void()>> commands;
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return !commands_.empty() || !jobs_.empty() || stopping_; });
    commands.swap(commands_);
  }
  for (const auto& call : commands) call();
  const std::lock_guard lock(mutex_);
  return !stopping_;
}

void EngineThread::step() {
  const auto ready = std::exchange(ready_, {});
  for (const auto& [id, choice] : ready) {
    if (const auto job = jobs_.find(id); job != jobs_.end()) start_choice(*job->second, choice);
  }
  const Stopwatch watch;
  if (engine_.step()) note_step(watch.seconds());

  std::vector<JobId> ended, late;
  for (const auto& [id, job] : jobs_) {
    for (Choice& choice : job->choices) {
      const bool admitted =
          choice.sequence && !choice.started && !engine_.scheduler().sequence(*choice.sequence).pages.empty();
      if (admitted) note_start(*job, choice);
    }
    if (!job->started && job->age() * 1000 > static_cast<double>(limits_.wait.count())) late.push_back(id);
    if (job->open == 0) {
      job->times.total = job->age();
      ended.push_back(id);
    }
    if (!job->events.empty()) job->job.sink->push(std::exchange(job->events, {}), job->times);
  }
  for (JobId id : late) {
    fail(*jobs_.at(id), ApiError::overloaded(503, "queue_timeout", "the request has waited too long", 5),
         "queue_timeout");
  }
  for (JobId id : ended) {
    metrics_.observe("request_seconds", jobs_.at(id)->times.total);
    forget(id);
  }
}

void EngineThread::start_choice(ActiveJob& job, size_t i) {
  Choice& choice = job.choices[i];
  if (choice.ended) return;
  Request& request = job.job.choices[i];
  request.on_token = [this, &job, i](int32_t id) { take_token(job, i, id); };
  request.on_finish = [this, &job, i](FinishReason reason) {
    event_of(job, i).finish = reason;
    if (reason == FinishReason::kNotFinite) metrics_.count("nan_logits_total");
    job.choices[i].sequence.reset();
    end_choice(job, i);
  };
  if (job.job.top_logprobs) {
    request.score_from = job.job.score_prompt ? 0 : std::ssize(request.prompt) - 1;
    request.on_logits = [this, &job, i](int64_t first, std::span<const float> logits) {
      take_logits(job, i, first, logits);
    };
  }
  try {
    choice.sequence = engine_.submit(request);
  } catch (const Error& e) {
    fail(job, ApiError::invalid("", e.what()), "refused");
  }
}

void EngineThread::end_choice(ActiveJob& job, size_t i) {
  Choice& choice = job.choices[i];
  if (std::exchange(choice.ended, true)) return;
  --job.open;
  if (choice.sequence) engine_.cancel(*std::exchange(choice.sequence, {}));
  release_followers(job, i);
}

void EngineThread::release_followers(ActiveJob& job, size_t choice) {
  std::erase_if(job.job.behind, [&](const auto& follower) {
    if (follower.second != choice) return false;
    ready_.emplace_back(job.id, follower.first);
    return true;
  });
}

void EngineThread::note_start(ActiveJob& job, Choice& choice) {
  if (std::exchange(choice.started, true)) return;
  const Sequence& sequence = engine_.scheduler().sequence(*choice.sequence);
  job.times.cached_tokens += sequence.cached;
  metrics_.count("prompt_tokens_total", static_cast<double>(sequence.prompt_tokens));
  metrics_.count("cached_prompt_tokens_total", static_cast<double>(sequence.cached));
  if (job.started) return;
  job.times.queue = job.age();
  metrics_.observe("queue_seconds", job.times.queue);
  leave_queue(job);
}

void EngineThread::take_logits(ActiveJob& job, size_t i, int64_t first, std::span<const float> logits) {
  const std::vector<int32_t>& prompt = job.job.choices[i].prompt;
  const auto vocab = static_cast<size_t>(model_.spec().vocab_size);
  const auto rows = static_cast<int64_t>(logits.size() / vocab);
  const auto row = [&](int64_t r) { return logits.subspan(static_cast<size_t>(r) * vocab, vocab); };
  const int64_t known = std::clamp<int64_t>(std::ssize(prompt) - 1 - first, 0, rows);  // their next id
  if (known > 0) {
    std::vector<TokenScore>& scores = event_of(job, i).prompt;
    const size_t place = scores.size();
    scores.resize(place + static_cast<size_t>(known));
    parallel_for(known, [&](int64_t r) {
      scores[place + static_cast<size_t>(r)] =
          score_token(row(r), prompt[static_cast<size_t>(first + r + 1)], *job.job.top_logprobs);
    });
  }
  if (known < rows) job.choices[i].drawn_from.assign(row(rows - 1).begin(), row(rows - 1).end());
}

void EngineThread::take_token(ActiveJob& job, size_t i, int32_t id) {
  Choice& choice = job.choices[i];
  note_start(job, choice);
  const Clock::time_point now = Clock::now();
  metrics_.count("generated_tokens_total");
  if (choice.last_token) {
    metrics_.observe("inter_token_seconds", std::chrono::duration<double>(now - *choice.last_token).count());
  } else {
    if (job.times.first_token == 0)
      metrics_.observe("time_to_first_token_seconds", job.times.first_token = job.age());
    release_followers(job, i);
  }
  choice.last_token = now;
  TokenEvent& event = event_of(job, i);
  event.id = id;
  if (job.job.top_logprobs) event.score = score_token(choice.drawn_from, id, *job.job.top_logprobs);
}

TokenEvent& EngineThread::event_of(ActiveJob& job, size_t choice) {
  const auto found = std::ranges::find(job.events, choice, &TokenEvent::choice);
  return found != job.events.end() ? *found : job.events.emplace_back(TokenEvent{.choice = choice});
}

void EngineThread::fail(ActiveJob& job, const ApiError& error, const char* cause) {
  const std::shared_ptr<TokenSink> sink = job.job.sink;
  for (size_t i = 0; i < job.choices.size(); ++i) end_choice(job, i);
  metrics_.count("cancelled_total", 1, fmt::format("cause=\"{}\"", cause));
  forget(job.id);
  sink->fail(error);
}

void EngineThread::fail_all(const ApiError& error, const char* cause, bool waiting_only) {
  std::vector<ActiveJob*> failing;
  for (const auto& [id, job] : jobs_) {
    if (!waiting_only || !job->started) failing.push_back(job.get());
  }
  for (ActiveJob* job : failing) fail(*job, error, cause);
}

void EngineThread::leave_queue(ActiveJob& job) {
  if (std::exchange(job.started, true)) return;
  const std::lock_guard lock(mutex_);
  --queued_jobs_;
  queued_tokens_ -= job.prompt_tokens;
}

void EngineThread::forget(JobId id) {
  leave_queue(*jobs_.at(id));
  jobs_.erase(id);
  const Clock::time_point now = Clock::now();
  const double since_last = std::chrono::duration<double>(now - std::exchange(last_end_, now)).count();
  const std::lock_guard lock(mutex_);
  --active_jobs_;
  seconds_a_job_ += 0.1 * (since_last - seconds_a_job_);
}

void EngineThread::note_step(double seconds) {
  const StepPlan& plan = engine_.last_plan();
  const auto decoding = std::ranges::count(plan.chunks, 1, &Chunk::count);
  const char* kind = decoding == 0 ? "prefill" : decoding == std::ssize(plan.chunks) ? "decode" : "mixed";
  const std::string labels = fmt::format("kind=\"{}\"", kind);
  metrics_.count("steps_total", 1, labels);
  metrics_.observe("step_seconds", seconds, labels);
  for (SequenceId id : plan.preempted) {
    log_.note(fmt::format("sequence {} gave its pages to older ones and waits; {} of {} pages are in use", id,
                          total_pages_ - engine_.scheduler().free_pages(), total_pages_));
  }
}

void EngineThread::update_status() {
  const Scheduler& scheduler = engine_.scheduler();
  const std::lock_guard lock(mutex_);
  status_ = {scheduler.running(),      scheduler.waiting(), scheduler.free_pages(),
             scheduler.cached_pages(), total_pages_,        scheduler.counters()};
}

}  // namespace tessera
