// The engine's thread: texts do not depend on what else runs, and everything that ends gives its pages back.
#include "tessera/server/engine_thread.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tessera/base/test_paths.h"
#include "tessera/engine/generator.h"
#include "tessera/kernels/backends.h"
#include "tessera/server/test_eventually.h"

namespace tessera {
namespace {

using namespace std::chrono_literals;

/// Collects what a job is told; wait() returns when it has heard the last of it.
class Collector : public TokenSink {
 public:
  explicit Collector(size_t choices) : ids(choices), open_(choices) {}

  void push(std::vector<TokenEvent> events, const JobTimes& now) override {
    const std::lock_guard lock(mutex_);
    times = now;
    for (const TokenEvent& event : events) {
      if (event.id) ids[event.choice].push_back(*event.id);
      prompt_scores += event.prompt.size();
      if (event.finish) --open_;
    }
    if (on_push) on_push();
    changed_.notify_all();
  }
  void fail(const ApiError& with) override {
    const std::lock_guard lock(mutex_);
    error = with;
    changed_.notify_all();
  }
  bool wait(size_t tokens = SIZE_MAX) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 30s, [&] { return open_ == 0 || error || ids[0].size() >= tokens; });
  }

  std::vector<std::vector<int32_t>> ids;
  size_t prompt_scores = 0;
  JobTimes times;
  std::optional<ApiError> error;
  std::function<void()> on_push;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t open_;
};

class EngineThreadTest : public testing::Test {
 protected:
  static constexpr int64_t kPages = 200;

  void start(const QueueLimits& limits = {}, int64_t pages = kPages, int64_t sequences = 64) {
    engine_.emplace(*model_, EngineOptions{.step_tokens = 64, .max_sequences = sequences, .pages = pages},
                    limits, metrics_, log_);
  }

  Request request(size_t length, int64_t tokens, uint64_t seed = 0) const {
    Request r;
    for (size_t i = 0; i < length; ++i) r.prompt.push_back(static_cast<int32_t>(10 + (i * 7 + seed) % 300));
    r.max_tokens = tokens;
    r.sampling = {.temperature = 0.8f, .seed = seed};
    return r;
  }

  std::shared_ptr<Collector> submit(Request r) {
    auto sink = std::make_shared<Collector>(1);
    Job job;
    job.choices = {std::move(r)};
    job.sink = sink;
    last_ = engine_->submit(std::move(job));
    return sink;
  }

  /// All pages that nobody caches are free soon; tests/serve/load.py judges how soon.
  void expect_all_pages_back() {
    EXPECT_TRUE(eventually([&] { return engine_->idle(); }));
    EXPECT_TRUE(eventually([&] {
      const EngineStatus s = engine_->status();
      return s.free_pages + s.cached_pages == s.total_pages;
    }));
    const EngineStatus s = engine_->status();
    EXPECT_EQ(s.free_pages + s.cached_pages, s.total_pages);
    EXPECT_EQ(s.running + s.waiting, 0u);
  }

  std::filesystem::path dir_ = std::filesystem::path(TESSERA_SOURCE_DIR) / "models/demo-llama";
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  std::unique_ptr<Model> model_ = Model::load(dir_, *backend_);
  Metrics metrics_{"tessera_", "demo"};
  Reporter log_;
  std::optional<EngineThread> engine_;
  EngineThread::JobId last_ = 0;
};

TEST_F(EngineThreadTest, CancelledJobsHearNoMoreAndGiveTheirPagesBack) {
  start();
  std::vector<std::shared_ptr<Collector>> sinks;
  std::vector<EngineThread::JobId> ids;
  for (uint64_t i = 0; i < 24; ++i) {
    sinks.push_back(submit(request(20 + i, 300, i)));
    ids.push_back(last_);
  }
  ASSERT_TRUE(sinks.front()->wait(3));
  for (EngineThread::JobId id : ids) engine_->cancel(id);
  engine_->cancel(ids.front());
  expect_all_pages_back();
  for (const auto& sink : sinks) EXPECT_FALSE(sink->error);
  EXPECT_NE(metrics_.text().find("cancelled_total{model=\"demo\",cause=\"client\"} 24"), std::string::npos);
}

TEST_F(EngineThreadTest, ChoicesShareTheirPromptAndEachIsWhatItsSeedSaysAlone) {
  start();
  const Request one = request(150, 12, 5);
  const auto alone = submit(one);
  ASSERT_TRUE(alone->wait());
  start();  // a new engine with an empty cache
  auto sink = std::make_shared<Collector>(3);
  Job job;
  for (uint64_t i = 0; i < 3; ++i) {
    Request r = one;
    r.sampling.seed += i;
    job.choices.push_back(r);
    if (i > 0) job.behind[i] = 0;
  }
  job.sink = sink;
  engine_->submit(std::move(job));
  ASSERT_TRUE(sink->wait());
  for (const auto& ids : sink->ids) EXPECT_EQ(ids.size(), 12u);
  EXPECT_NE(sink->ids[1], sink->ids[2]);
  EXPECT_EQ(sink->times.cached_tokens, 2 * 128) << "two whole pages, for two followers";
  expect_all_pages_back();
}

TEST_F(EngineThreadTest, ACancelledChoiceLetsTheOthersGoOn) {
  start();
  auto sink = std::make_shared<Collector>(2);
  Job job;
  job.choices = {request(10, 400, 1), request(10, 20, 2)};
  job.behind[1] = 0;
  job.sink = sink;
  const auto id = engine_->submit(std::move(job));
  ASSERT_TRUE(sink->wait(2));
  engine_->cancel(id, 0);
  expect_all_pages_back();
  EXPECT_EQ(sink->ids[1].size(), 20u);
}

TEST_F(EngineThreadTest, AFullQueueRefusesWithATimeToComeBack) {
  start({.jobs = 3}, kPages, /*sequences=*/1);
  std::vector<std::shared_ptr<Collector>> sinks;
  std::optional<ApiError> refusal;
  for (int i = 0; i < 12 && !refusal; ++i) {
    try {
      sinks.push_back(submit(request(10, 400)));
    } catch (const ApiError& e) {
      refusal = e;
    }
  }
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->status, 429);
  EXPECT_EQ(refusal->code, "queue_full");
  EXPECT_GE(refusal->retry_after.value_or(0), 1);
}

TEST_F(EngineThreadTest, WhoWaitsTooLongIsTold) {
  start({.wait = 20ms}, kPages, /*sequences=*/1);
  const auto first = submit(request(10, 480)), second = submit(request(10, 480));
  ASSERT_TRUE(second->wait());
  ASSERT_TRUE(second->error);
  EXPECT_EQ(second->error->status, 503);
  EXPECT_EQ(second->error->code, "queue_timeout");
  EXPECT_FALSE(first->error);
}

TEST_F(EngineThreadTest, DrainingFailsWhatWaitsAndLetsTheRestFinish) {
  start({}, kPages, /*sequences=*/1);
  const auto first = submit(request(10, 40));
  ASSERT_TRUE(first->wait(1));
  const auto second = submit(request(10, 40));
  engine_->drain();
  ASSERT_TRUE(second->wait());
  EXPECT_TRUE(second->error && second->error->code == "draining");
  ASSERT_TRUE(first->wait());
  EXPECT_EQ(first->ids[0].size(), 40u);
  EXPECT_THROW(submit(request(10, 5)), ApiError);
  expect_all_pages_back();
}

TEST_F(EngineThreadTest, StoppingFailsWhatRuns) {
  start();
  const auto sink = submit(request(10, 490));
  ASSERT_TRUE(sink->wait(1));
  engine_->stop();
  EXPECT_TRUE(sink->error && sink->error->status == 503);
}

TEST_F(EngineThreadTest, ScoresEveryPromptIdAndEveryDraw) {
  start();
  auto sink = std::make_shared<Collector>(1);
  Job job;
  job.choices = {request(100, 1)};
  job.top_logprobs = 1;
  job.score_prompt = true;
  job.sink = sink;
  engine_->submit(std::move(job));
  ASSERT_TRUE(sink->wait());
  EXPECT_EQ(sink->prompt_scores, 99u);
  EXPECT_EQ(sink->ids[0].size(), 1u);
}

TEST_F(EngineThreadTest, ARequestThatTheEngineRefusesIsAnswered) {
  start({}, /*pages=*/3);
  const auto sink = submit(request(100, 400));
  ASSERT_TRUE(sink->wait());
  ASSERT_TRUE(sink->error);
  EXPECT_EQ(sink->error->status, 400);
  expect_all_pages_back();
}

}  // namespace
}  // namespace tessera
