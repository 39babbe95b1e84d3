// See cost_model.h.
#include "tessera/kernels/cuda/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {
namespace {

// Fitted by bench/gpu/fit_cost_model.py to 17,800 timings of int4, g128 and int8 weights on an H200, 21
// values of M; times in us, rates a us. The model's choices are 1.0 % slower than the best measured ones on
// average, 23 % at worst; 2.2 % and 22 % for 215 problems with few outputs, most of them not fitted.

/// The kernel for few tokens.
struct StreamConstants {
  double launch = 2.472;               // launch, first latency, drain
  double device_bandwidth = 4.68e+06;  // bytes of weights
  double l2_bandwidth = 1.21e+07;      // bytes of weights and codes into all SMs
  double rate = 5.144e+08;             // multiply-adds of all SMs
  double end = 0.7697;                 // sums and outputs of a round of tiles
  double exchange = 0.5064;            // of a cluster
  double four_warps = 0.03791;         // fewer warps, fewer bytes in flight
  double expansion = 0.5393;           // what group parameters add to the products
};

/// The kernel on wgmma.
struct TileConstants {
  double launch = 3.744;
  double device_bandwidth = 4.662e+06;
  double sm_bandwidth = 1.019e+05;   // bytes from L2 into an SM
  double sm_rate = 9.413e+06;        // multiply-adds of an SM
  double stage = 0.04033;            // a stage's barriers and issue
  double tile = 1.118;               // an output tile's start and end
  double exchange_rate = 6.507e+04;  // bytes of accumulators through shared memory
  double send = 1.076;               // the same bytes sent to another block cost this times as much
  double exchange = 0.332;
  double unpacking = 0.001813;  // of a stage of 128 outputs
  double expansion = 0.06085;   // the same, in addition, when weights are in groups
};

/// What a tile size costs beside the estimate, where that is off.
double correction(const GemmConfig& config) {
  struct Entry {
    int rows, tokens;
    double factor;
  };
  constexpr Entry kTable[] = {{32, 24, 0.9987},   {32, 48, 1.021},    {64, 16, 1.05},    {64, 64, 0.9},
                              {64, 128, 0.9},     {128, 32, 0.9645},  {128, 64, 1.076},  {128, 96, 0.9337},
                              {128, 128, 0.9559}, {128, 144, 0.9413}, {128, 256, 1.027}, {192, 32, 0.933},
                              {192, 48, 0.942},   {192, 64, 0.9573},  {192, 96, 1.031},  {192, 128, 1.019},
                              {192, 144, 1.063},  {192, 160, 1.01},   {256, 80, 1.008},  {256, 128, 1.151},
                              {256, 144, 1.121}};
  for (const Entry& entry : kTable) {
    if (entry.rows == config.rows && entry.tokens == config.tokens) return entry.factor;
  }
  return 1;
}

double weight_bytes(WeightLayout layout) {
  return static_cast<double>(block_bytes(layout)) / (kBlockRows * kBlockInputs);
}

double estimate_stream(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k) {
  constexpr StreamConstants c;
  const int64_t token_tiles = ceil_div(m, config.tokens);
  const int64_t blocks = ceil_div(n, config.rows) * config.split * token_tiles;
  const int64_t slots = int64_t{kSms} * plan_stream(layout, config, m, n).per_sm;
  const int64_t rounds = ceil_div(blocks, slots);
  const auto work = static_cast<double>(blocks) * static_cast<double>(k) / config.split;
  const int64_t heaviest = rounds > 1 ? rounds * slots : ceil_div(blocks, kSms) * kSms;
  // SMs with less work leave bandwidth to the others: imbalance counts with the exponent 3/4.
  const double ratio = static_cast<double>(heaviest) / static_cast<double>(blocks);
  const double uneven = std::sqrt(ratio * std::sqrt(ratio));
  const double device =
      static_cast<double>(n) * static_cast<double>(k) * weight_bytes(layout) / c.device_bandwidth;
  const double inbound =
      work * (config.rows * weight_bytes(layout) + tile_tokens(m, config.tokens)) / c.l2_bandwidth * uneven;
  const double products =
      work * config.rows * config.tokens / c.rate * (layout.group_size > 0 ? 1 + c.expansion : 1) * uneven;
  const double bounds =
      std::cbrt(device * device * device + inbound * inbound * inbound + products * products * products);
  return c.launch + bounds + static_cast<double>(rounds) * c.end + (config.split > 1 ? c.exchange : 0) +
         (config.warps == 4 ? c.four_warps : 0);
}

/// Warpgroups of a block that share K in the kernel on wgmma: all, when they have one 64-row block.
int input_groups(int rows, int warps) {
  return rows == 64 ? warps / 4 : 1;
}

/// Clusters of `split` blocks that the device holds: its SMs come in groups of 16 or 18.
int64_t resident_clusters(int split, int blocks_per_sm) {
  return (split <= 2 ? kSms : split == 4 ? 120 : 112) * blocks_per_sm / split;
}

double estimate_tiles(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k) {
  constexpr TileConstants c;
  const int blocks_per_sm = config.rows == 128 && config.tokens <= 64 ? 2 : 1;
  const int64_t tiles = ceil_div(m, config.tokens) * ceil_div(n, config.rows);
  const auto rounds = static_cast<double>(ceil_div(tiles, resident_clusters(config.split, blocks_per_sm)));
  // Blocks that share an SM share its rates.
  const double sharing =
      std::clamp(static_cast<double>(tiles * config.split) / kSms, 1.0, double(blocks_per_sm));
  const double stages = static_cast<double>(ceil_div(k, kBlockInputs)) / config.split;
  const double inbound = kBlockInputs * (config.rows * weight_bytes(layout) + tile_tokens(m, config.tokens));
  const double products = static_cast<double>(kBlockInputs) * config.rows * config.tokens;
  const double unpacking = layout.bits == 8 ? 0 : c.unpacking + (layout.group_size > 0 ? c.expansion : 0);
  const double stage =
      (std::max(inbound / c.sm_bandwidth, products / c.sm_rate) + unpacking * config.rows / 128) * sharing +
      c.stage;
  const double exchange = 4.0 * config.rows * config.tokens / c.exchange_rate;
  const double others = static_cast<double>(config.split - 1) / config.split;
  const double finish =
      c.tile + exchange / config.split + (config.split > 1 ? c.send * others * exchange + c.exchange : 0);
  const double stream =
      static_cast<double>(n) * static_cast<double>(k) * weight_bytes(layout) / c.device_bandwidth;
  return c.launch + std::hypot(stream, rounds * (stages * stage + finish));
}

}  // namespace

int StreamPlan::clusters(int64_t token_tiles) const {
  return static_cast<int>(std::max<int64_t>(int64_t{kSms} * per_sm / (split * token_tiles), 1));
}

StreamPlan plan_stream(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n) {
  // Two stages keep 32 KB or more of weights in flight on an SM; with more, codes wait behind weights.
  constexpr int kWarpsPerSm = 16, kStages = 2, kReservedPerBlock = 1024;
  StreamPlan plan{config.split, config.warps};
  const int stage = config.rows / kStripRows * strip_bytes(layout) + config.tokens * kBlockInputs + 8;
  const int sums = (config.warps + 1) * config.rows * config.tokens * 4 + config.tokens * 8 + 8;
  const int64_t blocks = ceil_div(n, config.rows) * config.split * ceil_div(m, config.tokens);
  plan.per_sm = static_cast<int>(std::clamp<int64_t>(ceil_div(blocks, kSms), 1, kWarpsPerSm / config.warps));
  for (;; --plan.per_sm) {
    const int shared = std::min(kSharedPerBlock, kSharedPerSm / plan.per_sm - kReservedPerBlock);
    plan.stages = std::min(kStages, (shared - sums) / (stage * config.warps));
    if (plan.stages == kStages || plan.per_sm == 1) return plan;
  }
}

const std::vector<GemmConfig>& all_configs() {
  static const std::vector<GemmConfig> configs = [] {
    const std::pair<int, int> tiles[] = {{64, 64},   {64, 128},  {128, 32},  {128, 64},  {128, 96},
                                         {128, 128}, {128, 144}, {128, 256}, {192, 32},  {192, 48},
                                         {192, 64},  {192, 96},  {192, 128}, {192, 144}, {192, 160},
                                         {256, 80},  {256, 128}, {256, 144}};
    std::vector<GemmConfig> all;
    for (auto [rows, tokens] : tiles) {
      for (int split : {1, 2, 4, 8}) {
        const bool exists = split == 1 || (tokens <= 128 && (split <= 4 || tokens >= 64));
        const int warps = rows == 192 ? 12 : rows == 64 && tokens == 64 ? 16 : 8;
        if (exists && split * input_groups(rows, warps) <= 8) all.push_back({rows, tokens, split, warps});
      }
    }
    const std::pair<int, int> stream_tiles[] = {{32, 8},  {32, 16}, {32, 24}, {32, 32},
                                                {32, 48}, {64, 8},  {64, 16}};
    for (auto [rows, tokens] : stream_tiles) {
      for (int split : {1, 2}) {
        for (int warps : {4, 8}) all.push_back({rows, tokens, split, warps});
      }
    }
    return all;
  }();
  return configs;
}

bool runs(const GemmConfig& config, int64_t k) {
  const auto& all = all_configs();
  const int shares = config.split * (config.streams() ? 1 : input_groups(config.rows, config.warps));
  return std::find(all.begin(), all.end(), config) != all.end() && ceil_div(k, kBlockInputs) >= shares;
}

double estimate_microseconds(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k) {
  return correction(config) * (config.streams() ? estimate_stream(layout, config, m, n, k)
                                                : estimate_tiles(layout, config, m, n, k));
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
