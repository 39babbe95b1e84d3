// Metrics.
#include "tessera/server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tessera {
namespace {

struct Family {
  std::string_view name, type, help;
  std::string_view vllm = {};  ///< vLLM's name of the same, under its prefix
};

constexpr std::string_view kVllmPrefix = "vllm:";

/// Every metric that there is; docs/serving.md says which answers what.
constexpr Family kFamilies[] = {
    {"build_info", "gauge", "1, labelled with version, backend and instruction set"},
    {"requests_running", "gauge", "Sequences that are being computed", "num_requests_running"},
    {"requests_waiting", "gauge", "Sequences that wait for their first step or, preempted, for room",
     "num_requests_waiting"},
    {"kv_pages_used", "gauge", "Pages of keys and values that sequences hold"},
    {"kv_pages_cached", "gauge", "Pages that only the prefix cache holds; free when needed"},
    {"kv_pages_total", "gauge", "Pages of the pool"},
    {"kv_usage", "gauge", "Part of the pool that sequences hold, 0 to 1", "kv_cache_usage_perc"},
    {"connections", "gauge", "Open connections"},
    {"prompt_tokens_total", "counter", "Tokens of prompts that were admitted"},
    {"cached_prompt_tokens_total", "counter", "Those of them that the prefix cache held",
     "prefix_cache_hits_total"},
    {"generated_tokens_total", "counter", "Tokens that were drawn", "generation_tokens_total"},
    {"requests_total", "counter", "Requests that were answered, by route, status and finish reason"},
    {"cancelled_total", "counter", "Requests that ended early, by cause"},
    {"preemptions_total", "counter", "Sequences that lost their pages to older ones",
     "num_preemptions_total"},
    {"recomputed_tokens_total", "counter", "Tokens that were computed again after a preemption"},
    {"nan_logits_total", "counter", "Sequences that ended since a logit was not finite"},
    {"steps_total", "counter", "Steps of the engine, by kind"},
    {"step_seconds", "histogram", "Duration of a step, by kind: decode, mixed or prefill"},
    {"queue_seconds", "histogram", "From arrival to the first step", "request_queue_time_seconds"},
    {"time_to_first_token_seconds", "histogram", "From arrival to the first token"},
    {"inter_token_seconds", "histogram", "Between the tokens of a sequence", "inter_token_latency_seconds"},
    {"request_seconds", "histogram", "From arrival to the last token", "e2e_request_latency_seconds"},
};

constexpr std::array kBounds = {.001, .002, .005, .01, .02, .05, .1, .2, .5, 1., 2., 5., 10., 20., 60.};

}  // namespace

std::string label_value(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    c == '\n' ? escaped += "\\n" : escaped += c;
  }
  return escaped;
}

Metrics::Metrics(std::string prefix, const std::string& model)
    : prefix_(std::move(prefix)), model_(fmt::format("model=\"{}\"", label_value(model))) {}

void Metrics::count(std::string_view name, double by, const std::string& labels) {
  const std::lock_guard lock(mutex_);
  values_[std::string(name)][labels] += by;
}

void Metrics::set(std::string_view name, double value, const std::string& labels) {
  const std::lock_guard lock(mutex_);
  values_[std::string(name)][labels] = value;
}

void Metrics::observe(std::string_view name, double seconds, const std::string& labels, int64_t times) {
  const std::lock_guard lock(mutex_);
  Histogram& histogram = histograms_[std::string(name)][labels];
  histogram.buckets.resize(kBounds.size() + 1);
  const auto bucket = std::ranges::lower_bound(kBounds, seconds) - kBounds.begin();
  histogram.buckets[static_cast<size_t>(bucket)] += times;
  histogram.sum += seconds * static_cast<double>(times);
}

std::string Metrics::labels_of(const std::string& labels, const std::string& more) const {
  std::string all = model_;
  for (const std::string& part : {labels, more}) {
    if (!part.empty()) all += "," + part;
  }
  return all;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const Family& family : kFamilies) {
    const bool renamed = prefix_ == kVllmPrefix && !family.vllm.empty();
    const std::string name = fmt::format("{}{}", prefix_, renamed ? family.vllm : family.name);
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, family.help, family.type);
    if (const auto values = values_.find(family.name); values != values_.end()) {
      for (const auto& [labels, value] : values->second) {
        out += fmt::format("{}{{{}}} {}\n", name, labels_of(labels), value);
      }
    }
    if (const auto found = histograms_.find(family.name); found != histograms_.end()) {
      for (const auto& [labels, histogram] : found->second) {
        int64_t count = 0;
        for (size_t i = 0; i <= kBounds.size(); ++i) {
          count += histogram.buckets[i];
          const std::string bound = i < kBounds.size() ? fmt::format("{}", kBounds[i]) : "+Inf";
          out += fmt::format("{}_bucket{{{}}} {}\n", name, labels_of(labels, fmt::format("le=\"{}\"", bound)),
                             count);
        }
        out += fmt::format("{0}_sum{{{1}}} {2}\n{0}_count{{{1}}} {3}\n", name, labels_of(labels),
                           histogram.sum, count);
      }
    }
  }
  return out;
}

}  // namespace tessera
