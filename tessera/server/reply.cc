// Reply.
#include "tessera/server/reply.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace tessera {
namespace {

using nlohmann::json;

std::string make_id(const char* prefix) {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{}{:016x}{:08x}", prefix, random(), random() >> 32);
}

}  // namespace

double shown_logprob(double logprob) {
  constexpr double kLowest = -9999.0;  // vLLM's
  return std::isfinite(logprob) ? std::max(logprob, kLowest) : kLowest;
}

Reply::Reply(GenerationRequest request, std::vector<std::vector<int32_t>> prompts, size_t hidden,
             const ServedModel& served, std::unique_ptr<ReplyFormat> format,
             std::shared_ptr<HttpConnection> connection, std::function<void(const ReplySummary&)> done)
    : request_(std::move(request)),
      prompts_(std::move(prompts)),
      hidden_(hidden),
      served_(served),
      format_(std::move(format)),
      connection_(std::move(connection)),
      done_(std::move(done)),
      id_(make_id(format_->id_prefix())) {
  const auto n = static_cast<size_t>(request_.n);
  for (size_t i = 0; i < prompts_.size() * n; ++i) {
    choices_.emplace_back(i, prompts_[i / n], hidden_, request_, served_);
    wholes_.push_back({.index = i});
  }
  begun_.resize(choices_.size());
}

Job Reply::make_job(const Tenant& tenant, int64_t default_tokens) {
  Job job{.top_logprobs = request_.top_logprobs, .score_prompt = request_.echo, .sink = shared_from_this()};
  const auto n = static_cast<size_t>(request_.n);
  for (size_t i = 0; i < choices_.size(); ++i) {
    const std::vector<int32_t>& prompt = prompts_[i / n];
    Request& choice = job.choices.emplace_back();
    choice.prompt = prompt;
    choice.sampling = request_.sampling;
    choice.sampling.seed += i % n;
    choice.rules = request_.rules;
    choice.bias = request_.bias;
    choice.max_tokens = answer_tokens(request_, prompt.size(), default_tokens, served_);
    if (!request_.ignore_eos) choice.ends = served_.ends;
    choice.owner = tenant.owner;
    choice.salt = tenant.salt;
    const bool shares_pages = std::ssize(prompt) > kPageTokens && choice.max_tokens > 0 && !request_.echo;
    if (i % n > 0 && shares_pages) job.behind[i] = i - i % n;
  }
  return job;
}

void Reply::start(EngineThread& engine, const Tenant& tenant, int64_t default_tokens) {
  engine_ = &engine;
  if (request_.stream) {
    connection_->expect_events({.content_type = "text/event-stream",
                                .headers = {{"Cache-Control", "no-store"},
                                            {"X-Accel-Buffering", "no"},
                                            {"X-Seed", std::to_string(request_.sampling.seed)}}});
  }
  if (request_.max_tokens == 0 && !request_.top_logprobs) {
    for (ChoiceText& choice : choices_) {
      choice.finish("length");
      take_part(choice);
    }
    return finish();
  }
  try {
    job_ = engine.submit(make_job(tenant, default_tokens));
  } catch (const ApiError& error) {
    return refuse(error);
  }
  connection_->on_gone([self = shared_from_this()] { self->client_gone(); });
}

void Reply::push(std::vector<TokenEvent> events, const JobTimes& times) {
  connection_->post(
      [self = shared_from_this(), events = std::move(events), times] { self->take(events, times); });
}

void Reply::fail(const ApiError& error) {
  connection_->post([self = shared_from_this(), error] { self->refuse(error); });
}

void Reply::take(const std::vector<TokenEvent>& events, const JobTimes& times) {
  if (over_) return;
  times_ = times;
  for (const TokenEvent& event : events) {
    if (event.finish == FinishReason::kNotFinite) {
      engine_->cancel(job_, {}, "model_error");
      return refuse(ApiError::internal(
          "model_error",
          fmt::format("{}: the model's logits are not finite; its weights are damaged or overflow", id_)));
    }
    ChoiceText& choice = choices_[event.choice];
    if (choice.take(event)) engine_->cancel(job_, event.choice);
    take_part(choice);
  }
  if (std::ranges::all_of(choices_, &ChoiceText::finished)) return finish();
  connection_->send_events(std::exchange(events_, {}));
}

void Reply::take_part(ChoiceText& choice) {
  if (!choice.has_part()) return;
  ChoicePart part = choice.take_part();
  if (!request_.stream) return wholes_[part.index].append(std::move(part));
  const bool first = !begun_[part.index];
  begun_[part.index] = true;
  for (json& shown : format_->event_choices(part, first)) events_ += event(json::array({std::move(shown)}));
}

json Reply::frame(const char* object) const {
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", served_.name},
          {"system_fingerprint", served_.fingerprint}};
}

std::string Reply::event(json choices) const {
  json body = frame(format_->event_object());
  body["choices"] = std::move(choices);
  if (request_.include_usage) body["usage"] = nullptr;
  return fmt::format("data: {}\n\n", to_text(body));
}

json Reply::usage() const {
  int64_t prompt = 0, generated = 0;
  for (const auto& ids : prompts_) prompt += static_cast<int64_t>(ids.size() - hidden_);
  for (const ChoiceText& choice : choices_) generated += choice.tokens();
  return {{"prompt_tokens", prompt},
          {"completion_tokens", generated},
          {"total_tokens", prompt + generated},
          {"prompt_tokens_details", {{"cached_tokens", times_.cached_tokens}}}};
}

void Reply::finish() {
  if (request_.stream) {
    if (request_.include_usage) {
      json body = frame(format_->event_object());
      body["choices"] = json::array();
      body["usage"] = usage();
      events_ += fmt::format("data: {}\n\n", to_text(body));
    }
    connection_->send_events(std::exchange(events_, {}) + "data: [DONE]\n\n");
    connection_->end_events(/*close=*/false);
  } else {
    json body = frame(format_->whole_object());
    for (const ChoicePart& all : wholes_) body["choices"].push_back(format_->choice(all));
    body["usage"] = usage();
    connection_->respond(
        {.body = to_text(body), .headers = {{"X-Seed", std::to_string(request_.sampling.seed)}}});
  }
  end({.status = 200, .finish = choices_.front().finish_reason()});
}

void Reply::refuse(const ApiError& error) {
  if (over_) return;
  if (connection_->events_began()) {
    connection_->send_events(fmt::format("data: {}\n\n", to_text(error.body())));
    connection_->end_events(/*close=*/true);
  } else {
    connection_->respond(error.response());
  }
  end({.status = error.status, .finish = error.code});
}

void Reply::client_gone() {
  if (over_) return;
  engine_->cancel(job_);
  end({.status = 499, .finish = "client gone"});
}

void Reply::end(ReplySummary summary) {
  over_ = true;
  for (const auto& ids : prompts_) summary.prompt_tokens += static_cast<int64_t>(ids.size() - hidden_);
  for (const ChoiceText& choice : choices_) summary.generated_tokens += choice.tokens();
  summary.times = times_;
  summary.times.total = watch_.seconds();
  if (const auto done = std::exchange(done_, nullptr)) done(summary);
}

}  // namespace tessera
