// The router, and the routes that generate.
#include "tessera/server/routes.h"

#include <algorithm>

#include "tessera/server/chat_completions.h"

namespace tessera {
namespace {

std::string printable(const std::string& text, size_t longest) {
  std::string shown = one_line(text.substr(0, longest));
  std::erase_if(shown, [](char c) { return static_cast<unsigned char>(c) >= 0x7f; });
  return shown;
}

}  // namespace

Routes::Routes(const RouteContext& context, const RouteOptions& options)
    : context_(context), options_(options) {
  routes_ = {{"/health", {"GET", false, false, &Routes::health}},
             {"/version", {"GET", true, false, &Routes::version}},
             {"/openapi.json", {"GET", true, false, &Routes::openapi}},
             {"/metrics", {"GET", !options.open_metrics, false, &Routes::metrics}},
             {"/v1/models", {"GET", true, false, &Routes::models}},
             {"/v1/completions", {"POST", true, true, &Routes::completions}},
             {"/v1/chat/completions", {"POST", true, true, &Routes::chat_completions}}};
  if (options.page) routes_["/"] = {"GET", false, false, &Routes::page};
  for (const char* prefix : {"", "/v1"}) {
    routes_[fmt::format("{}/tokenize", prefix)] = {"POST", true, true, &Routes::tokenize};
    routes_[fmt::format("{}/detokenize", prefix)] = {"POST", true, true, &Routes::detokenize};
    routes_[fmt::format("{}/tokenizer_info", prefix)] = {"GET", true, false, &Routes::tokenizer_info};
  }
}

void Routes::handle(HttpRequest request, std::shared_ptr<HttpConnection> connection) {
  const auto visit = std::make_shared<Visit>(Visit{std::move(request), std::move(connection)});
  guarded(visit, [&] { route(visit); });
}

void Routes::route(const VisitPtr& visit) {
  const HttpRequest& request = visit->request;
  auto found = routes_.find(request.path);
  if (found == routes_.end() && request.path.starts_with("/v1/models/")) found = routes_.find("/v1/models");
  if (found == routes_.end()) {
    throw ApiError(404, "not_found_error", "route_not_found",
                   fmt::format("there is no route {}", printable(request.path, 200)));
  }
  const Route& route = found->second;
  if (request.method == "OPTIONS")
    return respond(visit, {.status = 204, .headers = {{"Allow", route.method}}});
  if (request.method != route.method) {
    HttpResponse response = ApiError(405, "not_found_error", "method_not_allowed",
                                     fmt::format("{} takes {}", request.path, route.method))
                                .response();
    response.headers.emplace_back("Allow", route.method);
    return respond(visit, std::move(response));
  }
  if (route.needs_key) visit->owner = context_.keys.check(request.authorization);
  const auto answer = [this, visit, call = route.answer] { (this->*call)(visit); };
  if (!route.slow) return answer();
  visit->connection->work([this, visit, answer] { guarded(visit, answer); });
}

void Routes::guarded(const VisitPtr& visit, const std::function<void()>& answer) {
  const auto refuse = [&](const ApiError& error) { respond(visit, error.response()); };
  try {
    answer();
  } catch (const ApiError& error) {
    refuse(error);
  } catch (const Error& error) {
    refuse(ApiError::invalid("", error.what()));
  } catch (const std::exception& error) {
    context_.log.note(fmt::format("request {}: {}", visit->request.id, error.what()));
    refuse(ApiError::internal("internal",
                              fmt::format("request {} failed; the log says why", visit->request.id)));
  }
}

void Routes::respond(const VisitPtr& visit, HttpResponse response) {
  visit->connection->post([this, visit, response = std::move(response)]() mutable {
    const int status = response.status;
    visit->connection->respond(std::move(response));
    log_visit(*visit, {.status = status, .times = {.total = visit->watch.seconds()}});
  });
}

void Routes::log_visit(const Visit& visit, const ReplySummary& summary) {
  const bool known = routes_.contains(visit.request.path);
  context_.metrics.count("requests_total", 1,
                         fmt::format("route=\"{}\",status=\"{}\",finish=\"{}\"",
                                     known ? visit.request.path : "other", summary.status, summary.finish));
  if (visit.request.path == "/health" || visit.request.path == "/metrics") return;  // asked for all the time
  const JobTimes& t = summary.times;
  context_.log.note(fmt::format(
      "{} {} {} {} {} {} tokens in ({} cached), {} out, queue {:.0f} ms, first {:.0f} ms, total {:.0f} ms",
      visit.request.id, visit.owner.name.empty() ? "-" : visit.owner.name, printable(visit.request.path, 60),
      summary.status, summary.finish.empty() ? "-" : summary.finish, summary.prompt_tokens, t.cached_tokens,
      summary.generated_tokens, t.queue * 1e3, t.first_token * 1e3, t.total * 1e3));
}

void Routes::completions(const VisitPtr& visit) {
  const RequestBody body(visit->request.body);
  note_unknown_fields(body, context_.log);
  start_reply(visit, read_completion(body, context_.served), completion_format(context_.served),
              kDefaultCompletionTokens);
}

void Routes::chat_completions(const VisitPtr& visit) {
  const RequestBody body(visit->request.body);
  note_unknown_fields(body, context_.log);
  start_reply(visit, read_chat(body, context_.served), chat_format(context_.served),
              context_.served.max_length);
}

void Routes::start_reply(const VisitPtr& visit, PromptRequest request, std::unique_ptr<ReplyFormat> format,
                         int64_t default_tokens) {
  if (options_.log_text) {
    for (const auto& prompt : request.prompts) {
      context_.log.note(fmt::format("{} prompt: {}", visit->request.id,
                                    one_line(context_.served.tokenizer.decode(prompt, false))));
    }
  }
  const auto reply =
      std::make_shared<Reply>(std::move(request.generation), std::move(request.prompts), request.hidden,
                              context_.served, std::move(format), visit->connection,
                              [this, visit](const ReplySummary& summary) { log_visit(*visit, summary); });
  const Tenant tenant{.owner = visit->owner.id,
                      .salt = options_.isolate_owners ? static_cast<uint64_t>(visit->owner.id) : 0};
  visit->connection->post(
      [this, reply, tenant, default_tokens] { reply->start(context_.engine, tenant, default_tokens); });
}

}  // namespace tessera
