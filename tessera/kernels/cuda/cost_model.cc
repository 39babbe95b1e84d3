// See cost_model.h.
#include "tessera/kernels/cuda/cost_model.h"

#include <algorithm>
#include <limits>

#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {
namespace {

constexpr double kSms = 132;
constexpr double kLaunch = 2.2;            // us: launch, first latency, epilogue
constexpr double kDeviceBandwidth = 4.0e6;  // bytes a us
constexpr double kSmBandwidth = 45e3;      // bytes a us and SM, from L2
constexpr double kSmRate = 5.5e6;          // multiply-adds a us and SM
constexpr double kExchangeRate = 30e3;     // bytes a us and SM of accumulators through shared memory

}  // namespace

const std::vector<GemmConfig>& all_configs() {
  static const std::vector<GemmConfig> configs = [] {
    const std::pair<int, int> tiles[] = {{128, 8}, {128, 16}, {128, 32}, {128, 64}, {128, 128}, {256, 64}, {256, 128}};
    std::vector<GemmConfig> all;
    for (auto [rows, tokens] : tiles) {
      for (int split : {1, 2, 4, 8}) {
        if (split <= 4 || tokens >= 64) all.push_back({rows, tokens, split});
      }
    }
    return all;
  }();
  return configs;
}

bool runs(const GemmConfig& config, int64_t k) {
  const auto& all = all_configs();
  return std::find(all.begin(), all.end(), config) != all.end() && ceil_div(k, kBlockInputs) >= config.split;
}

double estimate_microseconds(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k) {
  const double token_tiles = static_cast<double>(ceil_div(m, config.tokens));
  const double row_tiles = static_cast<double>(ceil_div(n, config.rows));
  const double blocks = token_tiles * row_tiles * config.split;
  const double rounds = std::max(1.0, static_cast<double>(ceil_div(static_cast<int64_t>(blocks), static_cast<int64_t>(kSms))));
  const double inputs = static_cast<double>(k) / config.split;
  const double weight_bytes = static_cast<double>(block_bytes(layout)) / (kBlockRows * kBlockInputs);
  const double inbound = inputs * (config.rows * weight_bytes + config.tokens);
  const double work = static_cast<double>(config.rows) * std::max(config.tokens, 16) * inputs;
  const double exchange = 4.0 * config.rows * config.tokens * (config.split > 1 ? 2 : 1);
  const double streamed = static_cast<double>(n * k) * weight_bytes / kDeviceBandwidth;
  const double block = std::max(inbound / kSmBandwidth, work / kSmRate) + exchange / kExchangeRate;
  return kLaunch + std::max(streamed, rounds * block);
}

GemmConfig choose_config(WeightLayout layout, int64_t m, int64_t n, int64_t k) {
  GemmConfig best;
  double least = std::numeric_limits<double>::infinity();
  for (const GemmConfig& config : all_configs()) {
    if (!runs(config, k)) continue;
    const double time = estimate_microseconds(layout, config, m, n, k);
    if (time < least) {
      least = time;
      best = config;
    }
  }
  return best;
}

}  // namespace tessera::cuda
