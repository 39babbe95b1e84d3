// See cost_model.h.
#include "tessera/kernels/cuda/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {
namespace {

// Fitted by bench/gpu/fit_cost_model.py to 3,000 timings of int4, g128 and int8 weights on an H200; times in
// us, rates an SM and us. Its choices are 4 % slower than the best measured ones on average, 70 % at worst.
constexpr double kSms = 132;
constexpr double kLaunch = 4.40;  // launch, first latency, drain
constexpr double kDeviceBandwidth =
    2.174e6;  // bytes of weights a us; combined with the blocks' own time as a root of squares
constexpr double kSmBandwidth = 92.6e3;   // bytes from L2
constexpr double kSmRate = 7.295e6;       // multiply-adds
constexpr double kStage = 0.0898;         // a stage's barriers and issue
constexpr double kTile = 1.300;           // an output tile's start and end
constexpr double kExchangeRate = 34.1e3;  // bytes of accumulators through shared memory
constexpr double kSend = 2.619;           // the same bytes sent to another block cost this times as much
constexpr double kClusterSync = 0.5;

}  // namespace

const std::vector<GemmConfig>& all_configs() {
  static const std::vector<GemmConfig> configs = [] {
    const std::pair<int, int> tiles[] = {{128, 8},   {128, 16}, {128, 32}, {128, 64},
                                         {128, 128}, {256, 64}, {256, 128}};
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
  const int blocks_per_sm = config.rows == 128 && config.tokens <= 64 ? 2 : 1;
  const int64_t tiles = ceil_div(m, config.tokens) * ceil_div(n, config.rows);
  const auto clusters = static_cast<int64_t>(kSms * blocks_per_sm) / config.split;
  const auto rounds = static_cast<double>(ceil_div(tiles, clusters));
  // Blocks that share an SM share its rates.
  const double sharing =
      std::clamp(static_cast<double>(tiles * config.split) / kSms, 1.0, double(blocks_per_sm));
  const double stages = static_cast<double>(ceil_div(k, kBlockInputs)) / config.split;
  const double weight_bytes = static_cast<double>(block_bytes(layout)) / (kBlockRows * kBlockInputs);
  const double inbound = stages * kBlockInputs * (config.rows * weight_bytes + config.tokens);
  const double products = stages * kBlockInputs * config.rows * config.tokens;
  const double exchange = 4.0 * config.rows * config.tokens / kExchangeRate;
  const double others = static_cast<double>(config.split - 1) / config.split;
  const double finish =
      kTile + exchange / config.split + (config.split > 1 ? kSend * others * exchange + kClusterSync : 0);
  const double block =
      stages * kStage + std::max(inbound / kSmBandwidth, products / kSmRate) * sharing + finish;
  const double stream = static_cast<double>(n) * static_cast<double>(k) * weight_bytes / kDeviceBandwidth;
  return kLaunch + std::hypot(stream, rounds * block);
}

GemmConfig choose_config(WeightLayout layout, int64_t m, int64_t n, int64_t k) {
  GemmConfig best;
  double least = std::numeric_limits<double>::infinity();
  for (const GemmConfig& config : all_configs()) {
    const bool too_wide = config.tokens > 8 && config.tokens / 2 >= m;
    if (too_wide || !runs(config, k)) continue;
    const double time = estimate_microseconds(layout, config, m, n, k);
    if (time < least) {
      least = time;
      best = config;
    }
  }
  return best;
}

}  // namespace tessera::cuda
