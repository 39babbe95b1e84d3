// Reductions over a row of logits. The loops run in kLanes independent lanes, so that compilers vectorise
// them without leave to reorder floating point; exp is a polynomial for the same reason.
#include "tessera/eval/logit_statistics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>

namespace tessera {
namespace {

constexpr size_t kLanes = 16;
using Lanes = std::array<float, kLanes>;

/// exp(x) for x <= 0, relative error below 3e-7; values below -87 give about 1e-38.
float exp_nonpositive(float x) {
  x = x < -87.0f ? -87.0f : x;
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
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  return p * std::bit_cast<float>((exponent + 127) << 23);
}

double sum(const Lanes& lanes) {
  double total = 0;
  for (float lane : lanes) total += lane;
  return total;
}

float highest(std::span<const float> x) {
  Lanes lanes;
  lanes.fill(x[0]);
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
  }
  for (; i < x.size(); ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes.begin(), lanes.end());
}

size_t position_of(float value, std::span<const float> x) {
  return static_cast<size_t>(std::find(x.begin(), x.end(), value) - x.begin());
}

double log_sum_exp(std::span<const float> x, float shift) {
  Lanes lanes{};
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) lanes[l] += exp_nonpositive(x[i + l] - shift);
  }
  for (; i < x.size(); ++i) lanes[0] += exp_nonpositive(x[i] - shift);
  return double{shift} + std::log(sum(lanes));
}

}  // namespace

double log_sum_exp(std::span<const float> x) {
  return log_sum_exp(x, highest(x));
}

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  return log_sum_exp(logits) - double{logits[static_cast<size_t>(token)]};
}

Divergence divergence(std::span<const float> reference, std::span<const float> candidate) {
  assert(reference.size() == candidate.size());
  const float a_top = highest(reference), b_top = highest(candidate);
  const double a_lse = log_sum_exp(reference, a_top), b_lse = log_sum_exp(candidate, b_top);
  // kl = sum p ((a - a_lse) - (b - b_lse)), with both rows taken relative to their log-sums.
  const auto a_shift = static_cast<float>(a_lse), b_shift = static_cast<float>(b_lse);
  Lanes lanes{};
  const auto add = [&](size_t i, size_t lane) {
    const float a = reference[i] - a_shift;
    lanes[lane] += exp_nonpositive(std::min(a, 0.0f)) * (a - (candidate[i] - b_shift));
  };
  size_t i = 0;
  for (; i + kLanes <= reference.size(); i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) add(i + l, l);
  }
  for (; i < reference.size(); ++i) add(i, 0);
  const double kl = sum(lanes) - (a_lse - a_shift) + (b_lse - b_shift);
  return {std::max(kl, 0.0), position_of(a_top, reference) == position_of(b_top, candidate)};
}

}  // namespace tessera
