// tessera serve: one model, many users, the API that OpenAI's clients speak.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <sstream>

#include "tessera/base/stopwatch.h"
#include "tessera/cli/commands.h"
#include "tessera/eval/kernel_check.h"
#include "tessera/model/device_plan.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/memory_share.h"
#include "tessera/program/terminal.h"
#include "tessera/server/http_server.h"
#include "tessera/server/routes.h"

namespace tessera {
namespace {

struct Options {
  std::string dir;
  ServedModelOptions model;
  HttpOptions http;
  RouteOptions routes;
  QueueLimits queue;
  KvOption kv = {};
  DeviceOption device = {};
  std::vector<std::string> keys;
  std::string key_file, metrics_prefix = "tessera_";
  int64_t step_tokens = 0, max_batch = 256;
  uint64_t kv_memory = 0;
  MemoryShare gpu_memory = {};
  double queue_timeout = 120, drain = 30;
  bool no_prefix_cache = false, share_cache = false, listen_early = false, selftest = false;
};

/// A line on stderr. What cannot be written, on a full disk say, is lost: that must end no server.
void write_line(std::string line) {
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

/// Lines on stderr, whole even when several threads write.
class Log : public Reporter {
 public:
  explicit Log(bool quiet) : quiet_(quiet) {}
  void note(std::string_view line) override {
    if (quiet_) return;
    const std::lock_guard lock(mutex_);
    write_line(fmt::format("{:%H:%M:%S} {}", fmt::localtime(std::time(nullptr)), line));
  }

 private:
  bool quiet_;
  std::mutex mutex_;
};

/// Bytes that keys and values may take: what is asked for; of a GPU what --gpu-memory leaves beside all else
/// that is on it; of the machine's memory a quarter, or more where a context needs it.
int64_t kv_bytes_of(const Options& o, int64_t context_bytes) {
  if (o.kv_memory > 0) return static_cast<int64_t>(o.kv_memory);
  if (const auto memory = o.device.backend().own_memory()) {
    constexpr int64_t kForGraphs = 256 << 20;  // recorded steps, and what they grow by
    const auto limit = static_cast<int64_t>(o.gpu_memory.of(memory->total));
    return std::max<int64_t>(limit - static_cast<int64_t>(memory->total - memory->free) - kForGraphs, 0);
  }
  return std::max(static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE) / 4, context_bytes);
}

/// A pool for max_batch whole contexts at most. Throws Error when there is no room for one.
int64_t pages_of(const Options& o, const Model& model, int64_t max_length) {
  const auto page_bytes = static_cast<int64_t>(model.kv_shape().page_bytes());
  const int64_t least = pages_for_sequences(1, max_length + 1),
                room = kv_bytes_of(o, least * page_bytes) / page_bytes;
  if (room < least) {
    throw Error(
        "{} are left for keys and values, a context of {} tokens takes {}; give more (--kv-memory, "
        "--gpu-memory), a shorter --context, or a --kv-bits of 8 or 4",
        format_bytes(static_cast<size_t>(room * page_bytes)), max_length,
        format_bytes(static_cast<size_t>(least * page_bytes)));
  }
  return o.kv_memory > 0 ? room : std::min(room, pages_for_sequences(o.max_batch, max_length + 1));
}

/// The signals that end or reload the program are waited for, in this thread alone.
sigset_t wait_for_signals_here() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

/// Whether one of the ending signals comes within the time.
bool ends_within(const sigset_t& signals, int64_t milliseconds) {
  const timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  const int signal = sigtimedwait(&signals, nullptr, &time);
  return signal == SIGINT || signal == SIGTERM;
}

/// Until an ending signal comes; a hang-up reads the keys again.
void wait_for_end(const sigset_t& signals, Keys& keys, Log& log) {
  for (int signal = 0; signal != SIGINT && signal != SIGTERM;) {
    sigwait(&signals, &signal);
    if (signal != SIGHUP) continue;
    try {
      keys.reload();
      log.note(fmt::format("{} keys", keys.size()));
    } catch (const Error& e) {
      log.note(fmt::format("the keys stay as they were: {}", e.what()));
    }
  }
}

std::vector<std::string> all_keys(const Options& o) {
  std::vector<std::string> keys = o.keys;
  if (const char* more = std::getenv("TESSERA_API_KEYS")) {
    std::istringstream words(more);
    for (std::string key; std::getline(words, key, ',');) keys.push_back(key);
  }
  return keys;
}

void print_start(const ServedModel& served, const Options& o, int64_t pages, const Keys& keys, uint16_t port,
                 double seconds) {
  const LinearInfo& linear = served.model.linears().front();
  const SamplingDefaults& d = served.defaults;
  write_line(fmt::format("model    {}: {} layers, {} on {}, {}", served.name, served.model.spec().n_layers,
                         linear.kernel.kernel, linear.kernel.isa, o.device.backend().name()));
  write_line(fmt::format("memory   KV pool {} = {} pages = {} tokens",
                         format_bytes(static_cast<size_t>(pages) * served.model.kv_shape().page_bytes()),
                         pages, pages * kPageTokens));
  write_line(fmt::format("limits   context {}, {} sequences, {} tokens a step, queue {}", served.max_length,
                         o.max_batch, o.step_tokens, o.queue.jobs));
  write_line(fmt::format("sampling temperature {}, top_p {}, top_k {}; ends {}{}", d.temperature, d.top_p,
                         d.top_k, fmt::join(served.ends, ", "),
                         served.options.bos_before_ids ? "; BOS before ids" : ""));
  write_line(fmt::format("template {}", !served.chat ? "none: /v1/chat/completions is refused"
                                        : served.options.template_file.empty()
                                            ? "the model's own"
                                            : served.options.template_file));
  write_line(fmt::format(
      "ready    http://{}:{} in {}; {}", o.http.host, port, format_duration(seconds),
      keys.empty() ? "no keys: whoever reaches it may ask" : fmt::format("{} keys", keys.size())));
}

/// Throws Error when a kernel of the model does not compute what the reference arithmetic says.
void test_kernels(const Options& o, Reporter& log) {
  const KernelCheck check = check_kernels(o.dir, o.device.backend(), log);
  if (check.outputs_off > 0) {
    throw Error("{}: {} of {} outputs differ from the reference, first in {}; see tessera verify", o.dir,
                check.outputs_off, check.outputs, check.first_off);
  }
  write_line(fmt::format("selftest {} layers, {} outputs as the reference", check.layers, check.outputs));
}

void run(const Options& given, const GlobalOptions& global) {
  Options o = given;
  const Stopwatch watch;
  const sigset_t signals = wait_for_signals_here();
  Log log(global.quiet);
  Keys keys(all_keys(o), o.key_file);
  std::atomic<Routes*> answering = nullptr;  // null: the model is being loaded
  HttpServer server(o.http);
  const auto listen = [&] {
    server.start([&](HttpRequest request, std::shared_ptr<HttpConnection> connection) {
      Routes* const routes = answering;
      if (routes == nullptr) return answer_loading(request, *connection);
      routes->handle(std::move(request), std::move(connection));
    });
  };
  if (o.listen_early) listen();
  if (o.device.backend().own_memory()) {
    log.note(fmt::format("{} {}", o.device.backend().name(),
                         plan_device(o.dir, o.device.backend().limits()).to_string()));
  }
  const LoadedModel loaded = load_model(o.dir, o.device, log);
  o.kv.apply(*loaded.model);
  if (o.selftest) test_kernels(o, log);
  if (o.step_tokens == 0) o.step_tokens = loaded.model->max_rows();
  const ServedModel served(*loaded.model, *loaded.tokenizer, o.model);
  const int64_t pages = pages_of(o, *loaded.model, served.max_length);
  Metrics metrics(o.metrics_prefix, served.name);
  const KernelInfo& kernel = served.model.linears().front().kernel;
  metrics.set("build_info", 1,
              fmt::format("version=\"{}\",backend=\"{}\",isa=\"{}\"", TESSERA_VERSION,
                          label_value(o.device.backend().name()), kernel.isa));
  o.queue.wait = std::chrono::milliseconds(static_cast<int64_t>(o.queue_timeout * 1000));
  o.routes.isolate_owners = !o.share_cache;

  EngineThread engine(*loaded.model,
                      {.step_tokens = o.step_tokens,
                       .max_sequences = o.max_batch,
                       .pages = pages,
                       .prefix_cache = !o.no_prefix_cache},
                      o.queue, metrics, log);
  Routes routes(
      {.served = served, .engine = engine, .metrics = metrics, .keys = keys, .log = log, .http = server},
      o.routes);
  answering = &routes;
  if (!o.listen_early) listen();
  print_start(served, o, pages, keys, server.port(), watch.seconds());

  wait_for_end(signals, keys, log);
  log.note("shutting down");
  routes.drain();
  engine.drain();
  server.drain();
  const Stopwatch draining;
  while (!engine.idle() && draining.seconds() < o.drain && !ends_within(signals, 20)) {
  }
  engine.stop();
  const Stopwatch flushing;  // of the last answers
  while (server.answering() > 0 && flushing.seconds() < 1 && !ends_within(signals, 10)) {
  }
  server.stop();
}

}  // namespace

void add_serve(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "serve", "Serve a model over HTTP, as OpenAI's API");
  auto o = std::make_shared<Options>();
  command->footer(
      "Examples:\n  tessera serve llama-qqq\n"
      "  tessera serve llama-qqq --host 0.0.0.0 --port 8000 --api-key-file keys --kv-bits 8\n"
      "  curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' -d '{\"prompt\": "
      "\"Once "
      "upon\", \"max_tokens\": 40}'");
  command->add_option("model", o->dir, "Model folder or GGUF file")->required();
  command->add_option("--host", o->http.host, "Address to listen on; 0.0.0.0: all")->capture_default_str();
  command->add_option("--port", o->http.port, "Port; 0: a free one")->capture_default_str();
  command->add_option("--served-name", o->model.name,
                      "Name of the model in requests (default: of the folder)");
  command->add_option("--chat-template", o->model.template_file,
                      "Jinja file for the chat route (default: the model's)");
  command->add_flag("--any-model", o->model.any_name, "Accept every model name");
  command->add_option("--api-key", o->keys,
                      "A key that requests must carry (may be repeated; also TESSERA_API_KEYS)");
  command->add_option("--api-key-file", o->key_file, "Lines of NAME:KEY; read again on SIGHUP");
  command
      ->add_option("--context,--max-context", o->model.max_length,
                   "Tokens of prompt and answer (default: the model's)")
      ->check(CLI::PositiveNumber);
  o->kv.add_to(*command);
  o->device.add_to(*command);
  command->add_option("--kv-memory", o->kv_memory, "Memory for keys and values, such as 4GB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  command
      ->add_option_function<std::string>(
          "--gpu-memory", [o](const std::string& text) { o->gpu_memory = MemoryShare::parse(text); },
          "Most of a GPU's memory that may be in use, such as 40GB or 0.9 of it")
      ->default_str("0.9");
  command->add_option("--max-batch", o->max_batch, "Sequences that run at once")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--step-tokens", o->step_tokens,
                   "Tokens that run in one step (default: the device's most)")
      ->check(CLI::PositiveNumber);
  command->add_option("--max-queue", o->queue.jobs, "Requests that may wait")->capture_default_str();
  command->add_option("--queue-timeout", o->queue_timeout, "Seconds that a request may wait")
      ->capture_default_str();
  command->add_option("--drain", o->drain, "Seconds that running requests get at the end")
      ->capture_default_str();
  command->add_flag("--no-prefix-cache", o->no_prefix_cache,
                    "Compute shared beginnings of prompts each time");
  command->add_flag("--share-cache", o->share_cache, "Share cached beginnings among the owners of keys");
  command->add_flag("--prepend-bos-to-ids", o->model.bos_before_ids,
                    "Evaluate prompts of token ids behind a BOS that answers do not show");
  command->add_flag("--open-metrics", o->routes.open_metrics, "/metrics needs no key");
  command
      ->add_option("--metrics-prefix", o->metrics_prefix,
                   "Opens the names of metrics; vllm: takes vLLM's names")
      ->capture_default_str();
  command->add_flag("!--no-page", o->routes.page, "No chat page at /");
  command->add_flag("--log-text", o->routes.log_text, "Log prompts");
  command->add_option("--cors-origin", o->http.cors_origin, "Origin whose pages may call");
  command->add_option("--max-connections", o->http.max_connections, "Open connections")
      ->capture_default_str();
  command
      ->add_option("--per-peer", o->http.max_peer_connections,
                   "Open connections of one address; 0: no limit of its own")
      ->capture_default_str();
  command->add_flag("--listen-early", o->listen_early, "Listen while the model loads, and answer 503");
  command->add_flag("--selftest", o->selftest,
                    "First check the kernels of every layer against the reference arithmetic");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
