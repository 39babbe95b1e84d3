// The thread that owns the engine: jobs in, tokens out.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/engine/batch_engine.h"
#include "tessera/eval/logit_statistics.h"
#include "tessera/server/api_error.h"
#include "tessera/server/metrics.h"

namespace tessera {

/// News of one choice of a job.
struct TokenEvent {
  size_t choice = 0;
  std::vector<TokenScore> prompt = {};   ///< of prompt ids in order, beginning with the second
  std::optional<int32_t> id = {};        ///< was drawn
  std::optional<TokenScore> score = {};  ///< of `id`, where scores are wanted
  std::optional<FinishReason> finish = {};
};

/// How a job went, told with its last news.
struct JobTimes {
  double queue = 0, first_token = 0, total = 0;  ///< seconds since its arrival; 0: did not happen
  int64_t cached_tokens = 0;                     ///< of the prompts, found in the prefix cache
};

/// Receives what becomes of a job, from the engine thread: it must not wait.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  /// At most once a step.
  virtual void push(std::vector<TokenEvent> events, const JobTimes& times) = 0;
  /// The last call when the job cannot be finished.
  virtual void fail(const ApiError& error) = 0;
};

/// The choices of one HTTP request. They are valid for the engine; their functions are set by EngineThread.
struct Job {
  std::vector<Request> choices = {};
  /// Where its beginning is shared, the choice that draws its first token before this one starts, so that the
  /// prefix cache has the pages: index in `choices`.
  std::map<size_t, size_t> behind = {};
  std::optional<int64_t> top_logprobs = {};  ///< scores are wanted, with so many of the likeliest tokens
  bool score_prompt = false;
  std::shared_ptr<TokenSink> sink = {};
};

struct QueueLimits {
  size_t jobs = 1000;
  int64_t tokens = 4'000'000;  ///< of prompts
  std::chrono::milliseconds wait{120'000};
};

/// A picture of the engine after its last step.
struct EngineStatus {
  size_t running = 0, waiting = 0;
  int64_t free_pages = 0, cached_pages = 0, total_pages = 0;
  SchedulerCounters counters = {};
};

class EngineThread {
 public:
  using JobId = uint64_t;

  /// `model`, `metrics` and `log` must outlive it; `log` is called from its thread.
  EngineThread(Model& model, const EngineOptions& options, const QueueLimits& limits, Metrics& metrics,
               Reporter& log);
  ~EngineThread() { stop(); }

  /// Ends what still runs with an error 503, and the thread.
  void stop();

  // Any thread may call these.

  /// Throws ApiError 429 when the queue is full, 503 when the server shuts down.
  JobId submit(Job job);
  /// Forgets a job, or one of its choices, before the next step; one that has ended is passed over. The sink
  /// of a job whose last choice is cancelled hears no more.
  void cancel(JobId id, std::optional<size_t> choice = {}, const char* cause = "client");
  /// Takes no more jobs and fails those that wait.
  void drain();
  bool idle() const;
  EngineStatus status() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Choice {
    std::optional<SequenceId> sequence = {};  ///< while the engine has it
    bool started = false, ended = false;
    std::optional<Clock::time_point> last_token = {};
    std::vector<float> drawn_from = {};  ///< the logits of the id that is told next
  };
  struct ActiveJob {
    Job job;
    JobId id = 0;
    Clock::time_point arrival = Clock::now();
    std::vector<Choice> choices = {};
    std::vector<TokenEvent> events = {};  ///< of this step
    JobTimes times = {};
    size_t open = 0;  ///< choices that have not ended
    int64_t prompt_tokens = 0;
    bool started = false;

    double age() const { return std::chrono::duration<double>(Clock::now() - arrival).count(); }
  };

  void command(std::function<void()> call);
  void run(int threads);
  /// Waits for something to do. False when the thread is to end.
  bool obey_commands();
  void step();
  void start_choice(ActiveJob& job, size_t choice);
  void end_choice(ActiveJob& job, size_t choice);
  /// The choices that have waited for this one may start.
  void release_followers(ActiveJob& job, size_t choice);
  void note_start(ActiveJob& job, Choice& choice);
  void take_logits(ActiveJob& job, size_t choice, int64_t first, std::span<const float> logits);
  void take_token(ActiveJob& job, size_t choice, int32_t id);
  TokenEvent& event_of(ActiveJob& job, size_t choice);
  void fail(ActiveJob& job, const ApiError& error, const char* cause);
  void fail_all(const ApiError& error, const char* cause, bool waiting_only);
  void leave_queue(ActiveJob& job);
  void forget(JobId id);
  void note_step(double seconds);
  void update_status();

  Model& model_;
  BatchEngine engine_;
  QueueLimits limits_;
  Metrics& metrics_;
  Reporter& log_;
  int64_t total_pages_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::function<void()>> commands_;
  EngineStatus status_;
  size_t queued_jobs_ = 0, active_jobs_ = 0;
  int64_t queued_tokens_ = 0;
  double seconds_a_job_ =
      0.1;  ///< between the ends of jobs, a moving mean: what one place in the queue costs
  bool draining_ = false, stopping_ = false;
  JobId next_id_ = 1;

  // The thread's own.
  std::map<JobId, std::unique_ptr<ActiveJob>> jobs_;
  std::vector<std::pair<JobId, size_t>> ready_;  ///< choices whose turn has come
  Clock::time_point last_end_ = Clock::now();
  std::thread thread_;
};

}  // namespace tessera
