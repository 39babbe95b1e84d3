// See configs.h.
#include "tessera/kernels/cuda/sm80/configs.h"

#include <algorithm>

#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda::sm80 {
namespace {

constexpr GemmConfig kConfigs[] = {{32, 16, 1, 8, KernelFamily::kSm80},
                                   {64, 64, 1, 8, KernelFamily::kSm80},
                                   {128, 128, 1, 8, KernelFamily::kSm80}};

/// Cycles of an SM a tile: 2,048 multiply-adds each at best, of which a tile of few tokens gets less because
/// its weights are expanded for it alone, 32 bytes of operands, and a start and end.
double tile_cycles(WeightLayout layout, const GemmConfig& config, int64_t k) {
  constexpr double kRate = 2048, kExpansionRate = 256, kBytes = 32, kStartAndEnd = 3000;
  const double weight_bytes = static_cast<double>(block_bytes(layout)) / (kBlockRows * kBlockInputs);
  const double products = config.rows * config.tokens / kRate + config.rows / kExpansionRate;
  const double traffic = (config.rows * weight_bytes + config.tokens) / kBytes;
  return static_cast<double>(k) * std::max(products, traffic) + kStartAndEnd;
}

}  // namespace

std::span<const GemmConfig> all_configs(bool outliers) {
  return std::span(kConfigs).first(outliers ? 2 : 3);
}

GemmConfig choose_config(const GemmProblem& problem, int sms) {
  const PackedWeights& w = problem.weights;
  const auto time = [&](const GemmConfig& config) {
    const int64_t tiles = ceil_div(problem.m, config.tokens) * ceil_div(w.n, config.rows);
    return static_cast<double>(ceil_div(tiles, sms)) * tile_cycles(w.layout, config, w.k);
  };
  const auto all = all_configs(problem.adds_outliers());
  return *std::min_element(all.begin(), all.end(),
                           [&](const GemmConfig& a, const GemmConfig& b) { return time(a) < time(b); });
}

}  // namespace tessera::cuda::sm80
