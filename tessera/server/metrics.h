// Counters and histograms in Prometheus' text format.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

/// A set of numbers; any thread may change or read it. A metric is there from its first use on.
class Metrics {
 public:
  /// `prefix` opens every name; after "vllm:" come vLLM's own names where it counts the same. `model` is a
  /// label of every sample.
  Metrics(std::string prefix, const std::string& model);

  /// Adds to a counter. `labels` as Prometheus writes them: route="/v1/models",status="200"
  void count(std::string_view name, double by = 1, const std::string& labels = "");
  /// Sets what only a reader of the moment knows: a gauge, or a counter that is kept elsewhere.
  void set(std::string_view name, double value, const std::string& labels = "");
  /// Adds a duration to a histogram, `times` times.
  void observe(std::string_view name, double seconds, const std::string& labels = "", int64_t times = 1);

  /// Everything, text format 0.0.4.
  std::string text() const;

 private:
  struct Histogram {
    std::vector<int64_t> buckets;  ///< of observations, not cumulative; the last has no bound
    double sum = 0;
  };
  std::string labels_of(const std::string& labels, const std::string& more = "") const;

  std::string prefix_, model_;
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, double>, std::less<>> values_;  ///< by name and labels
  std::map<std::string, std::map<std::string, Histogram>, std::less<>> histograms_;
};

/// A label's value with the characters escaped that Prometheus wants escaped.
std::string label_value(std::string_view text);

}  // namespace tessera
