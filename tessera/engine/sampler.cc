// From logits to the next token.
#include "tessera/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tessera/base/error.h"

namespace tessera {
namespace {

/// The id of the highest logit, the lowest such id.
int32_t greedy(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void check_logits(std::span<const float> logits, float highest) {
  const bool has_nan = std::any_of(logits.begin(), logits.end(), [](float v) { return std::isnan(v); });
  if (has_nan || !std::isfinite(highest)) {
    throw Error("the model's logits are not finite; its weights are damaged or overflow");
  }
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    throw Error("temperature {} is out of range: 0 (greedy) or more", options.temperature);
  }
  if (options.top_k < 0) throw Error("top-k {} is out of range: 0 (all tokens) or more", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw Error("top-p {} is out of range: above 0, at most 1", options.top_p);
  }
}

int32_t Sampler::sample(std::span<const float> logits) {
  const int32_t best = greedy(logits);
  check_logits(logits, logits[static_cast<size_t>(best)]);
  if (options_.temperature == 0) return best;
  candidates_.clear();
  weights_.clear();
  const double highest = logits[static_cast<size_t>(best)];
  for (size_t i = 0; i < logits.size(); ++i) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  if (options_.top_k > 0 || options_.top_p < 1) keep_likeliest();
  for (const Candidate& c : candidates_) {
    weights_.push_back(std::exp((double{c.logit} - highest) / double{options_.temperature}));
  }
  return draw();
}

void Sampler::keep_likeliest() {
  const size_t k = options_.top_k > 0 ? std::min(candidates_.size(), static_cast<size_t>(options_.top_k))
                                      : candidates_.size();
  const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
  std::partial_sort(candidates_.begin(), end, candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
  candidates_.resize(k);
}

int32_t Sampler::draw() {
  double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  if (options_.top_p < 1) {
    double kept = 0;
    size_t count = 0;
    while (count < weights_.size() && kept < double{options_.top_p} * total) kept += weights_[count++];
    weights_.resize(count);
    total = kept;
  }
  double rest = static_cast<double>(random_() >> 11) * 0x1p-53 * total;  // uniform in [0, total)
  size_t i = 0;
  while (i + 1 < weights_.size() && rest >= weights_[i]) rest -= weights_[i++];
  return candidates_[i].id;
}

}  // namespace tessera
