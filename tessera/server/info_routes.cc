// The routes that compute nothing: the page, health, models, version, metrics, and what describes them all.
#include "tessera/server/commit.h"
#include "tessera/server/openapi.h"
#include "tessera/server/page.h"
#include "tessera/server/routes.h"

namespace tessera {

using nlohmann::json;

void answer_loading(const HttpRequest& request, HttpConnection& connection) {
  HttpResponse response = ApiError::overloaded(503, "loading", "the model is being loaded", 5).response();
  if (request.path == "/health") response.body = json{{"status", "loading"}}.dump();
  connection.respond(std::move(response));
}

void Routes::health(const VisitPtr& visit) {
  const bool draining = draining_;
  respond(visit,
          {.status = draining ? 503 : 200, .body = json{{"status", draining ? "draining" : "ok"}}.dump()});
}

void Routes::page(const VisitPtr& visit) {
  respond(visit, chat_page());
}

void Routes::openapi(const VisitPtr& visit) {
  respond(visit, {.body = kOpenApi});
}

void Routes::models(const VisitPtr& visit) {
  const ServedModel& served = context_.served;
  const LinearInfo& linear = served.model.linears().front();
  const json model = {{"id", served.name},
                      {"object", "model"},
                      {"created", served.created},
                      {"owned_by", "tessera"},
                      {"root", served.folder},
                      {"max_model_len", served.max_length},
                      {"quantization", linear.kernel.kernel},
                      {"kernel", linear.kernel.isa},
                      {"chat_template", served.chat != nullptr},
                      {"bos_before_ids", served.options.bos_before_ids}};
  constexpr std::string_view kList = "/v1/models/";
  const std::string& path = visit->request.path;
  if (!path.starts_with(kList))
    return respond(visit, {.body = json{{"object", "list"}, {"data", {model}}}.dump()});
  served.check_name(path.substr(kList.size()));
  respond(visit, {.body = model.dump()});
}

void Routes::version(const VisitPtr& visit) {
  const KernelInfo& kernel = context_.served.model.linears().front().kernel;
  respond(visit, {.body = json{{"version", TESSERA_VERSION},
                               {"commit", kCommit},
                               {"kernel", kernel.kernel},
                               {"isa", kernel.isa}}
                              .dump()});
}

void Routes::metrics(const VisitPtr& visit) {
  const EngineStatus status = context_.engine.status();
  Metrics& m = context_.metrics;
  m.set("requests_running", static_cast<double>(status.running));
  m.set("requests_waiting", static_cast<double>(status.waiting));
  m.set("kv_pages_used", static_cast<double>(status.total_pages - status.free_pages - status.cached_pages));
  m.set("kv_pages_cached", static_cast<double>(status.cached_pages));
  m.set("kv_pages_total", static_cast<double>(status.total_pages));
  m.set("connections", static_cast<double>(context_.http.connections()));
  m.set("preemptions_total", static_cast<double>(status.counters.preemptions));
  m.set("recomputed_tokens_total", static_cast<double>(status.counters.recomputed_tokens));
  respond(visit, {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = m.text()});
}

}  // namespace tessera
