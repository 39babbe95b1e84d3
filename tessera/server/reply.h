// The answer to a generation request, whole or in events.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tessera/base/stopwatch.h"
#include "tessera/server/choice_text.h"
#include "tessera/server/engine_thread.h"
#include "tessera/server/http.h"

namespace tessera {

/// How a route writes its answers.
class ReplyFormat {
 public:
  virtual ~ReplyFormat() = default;
  virtual const char* id_prefix() const = 0;
  /// "object" of a whole answer and of an event.
  virtual const char* whole_object() const = 0;
  virtual const char* event_object() const = 0;
  /// An element of "choices" in a whole answer.
  virtual nlohmann::json choice(const ChoicePart& all) const = 0;
  /// Elements of "choices" of the events for a part, one an event; `first` for the first part of a choice.
  virtual std::vector<nlohmann::json> event_choices(const ChoicePart& part, bool first) const = 0;
};

/// -inf and NaN as the number that clients know for them: JSON has neither.
double shown_logprob(double logprob);

/// For whom the engine works.
struct Tenant {
  int32_t owner = 0;
  uint64_t salt = 0;  ///< tenants of different salts share no cached page
};

/// What the access log and the metrics say of a request that was answered.
struct ReplySummary {
  int status = 200;
  std::string finish = {};
  int64_t prompt_tokens = 0, generated_tokens = 0;
  JobTimes times = {};
};

/// Takes the engine's news on the engine's thread, and turns them into an answer on the connection's.
class Reply : public TokenSink, public std::enable_shared_from_this<Reply> {
 public:
  /// The prompts, as they run, with their first `hidden` ids not shown; each has request.n choices.
  Reply(GenerationRequest request, std::vector<std::vector<int32_t>> prompts, size_t hidden,
        const ServedModel& served, std::unique_ptr<ReplyFormat> format,
        std::shared_ptr<HttpConnection> connection, std::function<void(const ReplySummary&)> done);

  /// Submits the choices, from a post() of the connection; a refusal is the answer.
  void start(EngineThread& engine, const Tenant& tenant, int64_t default_tokens);

  void push(std::vector<TokenEvent> events, const JobTimes& times) override;
  void fail(const ApiError& error) override;

 private:
  Job make_job(const Tenant& tenant, int64_t default_tokens);
  void take(const std::vector<TokenEvent>& events, const JobTimes& times);
  void refuse(const ApiError& error);
  void client_gone();
  void take_part(ChoiceText& choice);
  void finish();
  void end(ReplySummary summary);
  nlohmann::json frame(const char* object) const;
  nlohmann::json usage() const;
  std::string event(nlohmann::json choices) const;

  const GenerationRequest request_;
  const std::vector<std::vector<int32_t>> prompts_;
  const size_t hidden_;
  const ServedModel& served_;
  const std::unique_ptr<ReplyFormat> format_;
  const std::shared_ptr<HttpConnection> connection_;
  std::function<void(const ReplySummary&)> done_;
  std::string id_;
  const std::time_t created_ = std::time(nullptr);
  EngineThread* engine_ = nullptr;
  EngineThread::JobId job_ = 0;
  std::vector<ChoiceText> choices_;
  std::vector<ChoicePart> wholes_;  ///< of an answer that is not in events
  std::vector<bool> begun_;         ///< whether the first event of a choice is out
  std::string events_;              ///< of this step
  JobTimes times_;
  Stopwatch watch_;
  bool over_ = false;
};

}  // namespace tessera
