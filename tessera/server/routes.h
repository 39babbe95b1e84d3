// From an HTTP request to what answers it.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tessera/base/reporter.h"
#include "tessera/server/completions.h"
#include "tessera/server/engine_thread.h"
#include "tessera/server/http.h"
#include "tessera/server/http_server.h"
#include "tessera/server/keys.h"
#include "tessera/server/metrics.h"
#include "tessera/server/served_model.h"

namespace tessera {

struct RouteOptions {
  bool open_metrics = false;   ///< /metrics needs no key
  bool log_text = false;       ///< prompts go to the log
  bool isolate_owners = true;  ///< owners share no cached pages
  bool page = true;            ///< the chat page at /
};

/// Everything that routes need; all of it must outlive them.
struct RouteContext {
  const ServedModel& served;
  EngineThread& engine;
  Metrics& metrics;
  const Keys& keys;
  Reporter& log;
  const HttpServer& http;
};

/// The answer to every request while the model loads: 503, and for /health its status.
void answer_loading(const HttpRequest& request, HttpConnection& connection);

class Routes {
 public:
  Routes(const RouteContext& context, const RouteOptions& options);

  /// Answers on `connection`, now or later. Throws nothing: what goes wrong is an answer, too.
  void handle(HttpRequest request, std::shared_ptr<HttpConnection> connection);
  /// From now on /health says that the server shuts down.
  void drain() { draining_ = true; }

 private:
  /// A request on its way: who asks, and what the access log will say.
  struct Visit {
    HttpRequest request;
    std::shared_ptr<HttpConnection> connection;
    Owner owner = {};
    Stopwatch watch = {};
  };
  using VisitPtr = std::shared_ptr<Visit>;
  struct Route {
    const char* method;
    bool needs_key;
    bool slow;  ///< runs on a worker thread
    void (Routes::*answer)(const VisitPtr&);
  };

  void route(const VisitPtr& visit);
  /// Calls `answer`; an exception becomes the answer.
  void guarded(const VisitPtr& visit, const std::function<void()>& answer);
  void respond(const VisitPtr& visit, HttpResponse response);
  void log_visit(const Visit& visit, const ReplySummary& summary);

  void health(const VisitPtr& visit);
  void models(const VisitPtr& visit);
  void version(const VisitPtr& visit);
  void page(const VisitPtr& visit);
  void openapi(const VisitPtr& visit);
  void metrics(const VisitPtr& visit);
  void completions(const VisitPtr& visit);
  void chat_completions(const VisitPtr& visit);
  void tokenize(const VisitPtr& visit);
  void detokenize(const VisitPtr& visit);
  void tokenizer_info(const VisitPtr& visit);

  void start_reply(const VisitPtr& visit, PromptRequest request, std::unique_ptr<ReplyFormat> format,
                   int64_t default_tokens);

  RouteContext context_;
  RouteOptions options_;
  std::map<std::string, Route, std::less<>> routes_;
  std::atomic<bool> draining_ = false;
};

}  // namespace tessera
