// Reductions over a row of logits, written so that compilers vectorise them: exp is a polynomial, and `omp
// simd` allows the sums to be taken in lanes.
#include "tessera/eval/logit_statistics.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <numeric>

namespace tessera {
namespace {

constexpr size_t kBlock = 2048;  // elements summed in float before the sum goes on in double

/// exp(x) for x <= 0 (and a little above, by rounding), relative error below 3e-7; 0 below -87.
float exp_nonpositive(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer in the low bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts; |r| <= 0.35
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound);
  const float power = std::bit_cast<float>((exponent + 127) << 23);
  const uint32_t in_range = x < -87.0f ? 0u : ~0u;  // a mask: a branch would keep loops from being vectorised
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p * power) & in_range);
}

float highest(std::span<const float> x) {
  float top = x[0];
#pragma omp simd reduction(max : top)
  for (size_t i = 0; i < x.size(); ++i) top = x[i] > top ? x[i] : top;
  return top;
}

/// Sum of term(i) for i in [0, n).
template <class Term>
double sum(size_t n, const Term& term) {
  double total = 0;
  for (size_t begin = 0; begin < n; begin += kBlock) {
    const size_t end = std::min(begin + kBlock, n);
    float block = 0;
#pragma omp simd reduction(+ : block)
    for (size_t i = begin; i < end; ++i) block += term(i);
    total += double{block};
  }
  return total;
}

size_t position_of(float value, std::span<const float> x) {
  return static_cast<size_t>(std::find(x.begin(), x.end(), value) - x.begin());
}

double log_sum_exp(std::span<const float> x, float shift) {
  return double{shift} + std::log(sum(x.size(), [&](size_t i) { return exp_nonpositive(x[i] - shift); }));
}

}  // namespace

double log_sum_exp(std::span<const float> x) {
  return log_sum_exp(x, highest(x));
}

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  return log_sum_exp(logits) - double{logits[static_cast<size_t>(token)]};
}

TokenScore score_token(std::span<const float> logits, int32_t token, int64_t count) {
  const double total = log_sum_exp(logits);
  const auto logprob = [&](int32_t id) { return double{logits[static_cast<size_t>(id)]} - total; };
  TokenScore score{.logprob = logprob(token)};
  if (std::isnan(total) || count == 0) return score;
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min<std::ptrdiff_t>(count, std::ssize(ids));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
    const float left = logits[static_cast<size_t>(a)], right = logits[static_cast<size_t>(b)];
    return left != right ? left > right : a < b;
  });
  for (auto id = ids.begin(); id != end; ++id) score.top.push_back({*id, logprob(*id)});
  return score;
}

Divergence divergence(std::span<const float> reference, std::span<const float> candidate) {
  assert(reference.size() == candidate.size());
  const float a_top = highest(reference), b_top = highest(candidate);
  const double a_lse = log_sum_exp(reference, a_top), b_lse = log_sum_exp(candidate, b_top);
  // kl = sum p ((a - a_lse) - (b - b_lse)), with both rows taken relative to their log-sums.
  const auto a_shift = static_cast<float>(a_lse), b_shift = static_cast<float>(b_lse);
  const double shifted = sum(reference.size(), [&](size_t i) {
    const float a = reference[i] - a_shift;
    return exp_nonpositive(a) * (a - (candidate[i] - b_shift));
  });
  const double kl = shifted - (a_lse - a_shift) + (b_lse - b_shift);
  return {std::max(kl, 0.0), position_of(a_top, reference) == position_of(b_top, candidate)};
}

}  // namespace tessera
