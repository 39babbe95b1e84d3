// From logits to the next token.
#include "tessera/kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/base/philox.h"

namespace tessera {
namespace {

struct Candidate {
  float logit;
  int32_t id;
};

/// All tokens, or the top_k likeliest; ordered, likeliest first, where the draw depends on the order.
std::vector<Candidate> candidates_of(std::span<const float> logits, const SamplingOptions& options) {
  std::vector<Candidate> all;
  all.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) all.push_back({logits[i], static_cast<int32_t>(i)});
  if (options.top_k == 0 && options.top_p >= 1) return all;
  const size_t k = options.top_k > 0 ? std::min(all.size(), static_cast<size_t>(options.top_k)) : all.size();
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(k);
  std::partial_sort(all.begin(), end, all.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
  all.resize(k);
  return all;
}

/// logits with the edits made; `edited` holds them where there are any.
std::span<const float> apply_edits(std::span<const float> logits, std::span<const LogitEdit> edits,
                                   std::vector<float>& edited) {
  if (edits.empty()) return logits;
  edited.assign(logits.begin(), logits.end());
  for (const LogitEdit& edit : edits) {
    float& logit = edited[static_cast<size_t>(edit.id)];
    logit = edit(logit);
  }
  return edited;
}

/// Index of the weight in which `point`, a share of the total, falls; only the first weights that together
/// hold `top_p` of the total count.
size_t pick(std::vector<double> weights, double top_p, double point) {
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (top_p < 1) {
    double kept = 0;
    size_t count = 0;
    while (count < weights.size() && kept < top_p * total) kept += weights[count++];
    weights.resize(count);
    total = kept;
  }
  double rest = point * total;
  size_t picked = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    picked = i;
    if (rest < weights[i]) break;
    rest -= weights[i];
  }
  return picked;
}

}  // namespace

void check_sampling(const SamplingOptions& options) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    throw Error("temperature {} is out of range: 0 (greedy) or more", options.temperature);
  }
  if (options.top_k < 0) throw Error("top-k {} is out of range: 0 (all tokens) or more", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw Error("top-p {} is out of range: above 0, at most 1", options.top_p);
  }
  if (!(options.min_p >= 0 && options.min_p <= 1)) {
    throw Error("min-p {} is out of range: 0 to 1", options.min_p);
  }
}

int32_t sample_token(std::span<const float> raw_logits, const Draw& draw) {
  std::vector<float> edited;
  const std::span<const float> logits = apply_edits(raw_logits, draw.edits, edited);
  const auto best = std::max_element(logits.begin(), logits.end());
  const bool has_nan = std::any_of(logits.begin(), logits.end(), [](float v) { return std::isnan(v); });
  if (has_nan || !std::isfinite(*best)) return kNoToken;
  const SamplingOptions& options = draw.options;
  if (options.temperature == 0) return static_cast<int32_t>(best - logits.begin());

  const std::vector<Candidate> candidates = candidates_of(logits, options);
  std::vector<double> weights;
  weights.reserve(candidates.size());
  for (const Candidate& c : candidates) {
    const double weight = std::exp((double{c.logit} - double{*best}) / double{options.temperature});
    weights.push_back(weight < double{options.min_p} ? 0 : weight);
  }
  return candidates[pick(std::move(weights), double{options.top_p}, uniform(options.seed, draw.index))].id;
}

}  // namespace tessera
