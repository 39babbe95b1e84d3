// Rotary position tables.
#include "tessera/arch/rope.h"

#include <cmath>
#include <numbers>

#include "tessera/base/parallel.h"

namespace tessera {
namespace {

/// LLaMA 3's scaling of one frequency.
double scale_llama3(double frequency, const RopeConfig& rope) {
  const double turns = rope.original_context * frequency / (2 * std::numbers::pi);  // in the trained context
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  if (turns > rope.high_freq_factor) return frequency;
  const double kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - kept) * frequency / rope.factor + kept * frequency;
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& rope, int64_t head_dim) {
  std::vector<double> frequencies(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double& f = frequencies[i];
    f = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (rope.type == RopeConfig::Type::kLinear) f /= rope.factor;
    if (rope.type == RopeConfig::Type::kLlama3) f = scale_llama3(f, rope);
  }
  return frequencies;
}

RopeAngles rope_angles(const RopeConfig& rope, int64_t head_dim, int64_t positions) {
  const std::vector<double> frequencies = rope_frequencies(rope, head_dim);
  const size_t half = frequencies.size();
  RopeAngles angles;
  angles.cos.resize(static_cast<size_t>(positions) * half);
  angles.sin.resize(angles.cos.size());
  parallel_for(positions, [&](int64_t p) {
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * frequencies[i];
      angles.cos[static_cast<size_t>(p) * half + i] = static_cast<float>(std::cos(angle));
      angles.sin[static_cast<size_t>(p) * half + i] = static_cast<float>(std::sin(angle));
    }
  });
  return angles;
}

}  // namespace tessera
