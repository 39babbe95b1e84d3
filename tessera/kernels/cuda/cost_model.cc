// See cost_model.h.
#include "tessera/kernels/cuda/cost_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>

#include "tessera/kernels/cuda/cheapest.h"
#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {
namespace {

/// The kernel for few tokens; times in us, rates a us.
struct StreamCosts {
  double launch;            ///< launch, first latency, drain
  double device_bandwidth;  ///< bytes of weights
  double l2_bandwidth;      ///< bytes of weights and codes into all SMs
  double rate;              ///< multiply-adds of all SMs
  double end;               ///< sums and outputs of a round of tiles
  double exchange;          ///< of a cluster
  double four_warps;        ///< fewer bytes in flight on SMs with one block
  double expansion;         ///< of weights in groups, in tokens whose products take as long
};

/// A tile size of the kernel on wgmma; times in us.
struct TileCosts {
  TileSize size;
  double stage[3];  ///< 128 inputs of int4 weights, of weights in groups, of int8 weights
  double end[4];    ///< start and end of a tile that is not split, or among 2, 4, 8 blocks; 0: never is
  double sharing;   ///< a stage takes longer with this power of the blocks that share an SM,
  double fill;      ///< and with this power of the share of the device that is at work
};

// Fitted to 26,949 timings on an H200 (14 layers, int4, g128 and int8 weights, 20 values of M up to 2048).
// The choices are 0.6 % slower than the best measured ones on average, 17 % at worst, and 0.7 % and 17 % for
// layers that the tiles were not fitted to; with outliers, to which nothing was fitted, 0.2 % and 11 %.
#include "tessera/kernels/cuda/tile_costs.inc"
static_assert(std::ranges::equal(kTileCosts, kTileSizes, {}, &TileCosts::size));

double weight_bytes(WeightLayout layout) {
  return static_cast<double>(block_bytes(layout)) / (kBlockOutputs * kBlockInputs);
}

/// What several times make that overlap, but not wholly.
template <class... Times>
double longest(Times... times) {
  return std::cbrt((... + (times * times * times)));
}

double estimate_stream(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k,
                       int64_t outliers) {
  constexpr const StreamCosts& c = kStreamCosts;
  const int64_t token_tiles = ceil_div(m, config.tokens);
  const int64_t blocks = ceil_div(n, config.outputs) * config.split * token_tiles;
  const int64_t slots = int64_t{kSms} * plan_stream(layout, config, m, n, outliers > 0).per_sm;
  const int64_t rounds = ceil_div(blocks, slots);
  constexpr int64_t kInputsAnOutlier = kBlockInputs / kOutlierColumns;
  const auto inputs = static_cast<double>(k + kInputsAnOutlier * outliers);
  const auto work = static_cast<double>(blocks) * inputs / config.split;
  const int64_t heaviest = rounds > 1 ? rounds * slots : ceil_div(blocks, kSms) * kSms;
  // SMs with less work leave bandwidth to the others: imbalance counts with the exponent 3/4.
  const double ratio = static_cast<double>(heaviest) / static_cast<double>(blocks);
  const double uneven = std::sqrt(ratio * std::sqrt(ratio));
  // The share of SMs with one block, where the others have two.
  const double alone = std::clamp(2 - static_cast<double>(blocks) / kSms, 0.0, 1.0);
  const double device = static_cast<double>(n) * inputs * weight_bytes(layout) / c.device_bandwidth;
  const double inbound = work * (config.outputs * weight_bytes(layout) + tile_tokens(m, config.tokens)) /
                         c.l2_bandwidth * uneven;
  const double products =
      work * config.outputs * (config.tokens + (layout.group_size > 0 ? c.expansion : 0)) / c.rate * uneven;
  return c.launch + longest(device, inbound, products) + static_cast<double>(rounds) * c.end +
         (config.split > 1 ? c.exchange : 0) + (config.warps == 4 ? c.four_warps * alone : 0);
}

/// SMs that clusters of `split` blocks can use: the device has them in groups of 16 or 18.
int sms_for(int split) {
  return split <= 2 ? kSms : split == 4 ? 120 : 112;
}

double estimate_tiles(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k,
                      int64_t outliers) {
  const auto costs = std::find_if(std::begin(kTileCosts), std::end(kTileCosts), [&](const TileCosts& tile) {
    return tile.size == TileSize{config.outputs, config.tokens};
  });
  const int per_sm = tile_blocks_per_sm(config.outputs, config.tokens), sms = sms_for(config.split);
  const int64_t tiles = ceil_div(m, config.tokens) * ceil_div(n, config.outputs);
  const int64_t rounds = ceil_div(tiles, sms * per_sm / config.split);
  const double blocks_per_sm = static_cast<double>(tiles * config.split) / sms;
  const double sharing = std::clamp(std::ceil(blocks_per_sm), 1.0, double(per_sm));
  const double fill =
      std::min(blocks_per_sm / (static_cast<double>(rounds) * (rounds > 1 ? per_sm : sharing)), 1.0);
  const int kind = layout.bits == 8 ? 2 : layout.group_size > 0 ? 1 : 0;
  const double stage = costs->stage[kind] * std::pow(sharing, costs->sharing) * std::pow(fill, costs->fill);
  const double stages = std::ceil(static_cast<double>(k) / kBlockInputs / config.split) +
                        static_cast<double>(outliers) / kOutlierColumns;
  const double end = costs->end[std::countr_zero(static_cast<unsigned>(config.split))];
  const double stream = static_cast<double>(n) *
                        (static_cast<double>(k) * weight_bytes(layout) + 2 * static_cast<double>(outliers)) /
                        kTileBandwidth;
  return kTileLaunch + longest(stream, static_cast<double>(rounds) * (stages * stage + end));
}

}  // namespace

int StreamPlan::clusters(int64_t token_tiles) const {
  return static_cast<int>(std::max<int64_t>(int64_t{kSms} * per_sm / (split * token_tiles), 1));
}

StreamPlan plan_stream(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, bool outliers) {
  // Two stages keep 32 KB or more of weights in flight on an SM; with more, codes wait behind weights.
  constexpr int kWarpsPerSm = 16, kStages = 2, kReservedPerBlock = 1024;
  StreamPlan plan{config.split, config.warps};
  const int stage = config.outputs / kStripOutputs * strip_bytes(layout) + config.tokens * kBlockInputs + 8;
  const int sums_of_warps = config.warps * (outliers ? 2 : 1);
  const int sums = (sums_of_warps + 1) * config.outputs * config.tokens * 4 + config.tokens * 8 + 8;
  const int64_t blocks = ceil_div(n, config.outputs) * config.split * ceil_div(m, config.tokens);
  plan.per_sm = static_cast<int>(std::clamp<int64_t>(ceil_div(blocks, kSms), 1, kWarpsPerSm / config.warps));
  for (;; --plan.per_sm) {
    const int shared = std::min(kSharedPerBlock, kSharedPerSm / plan.per_sm - kReservedPerBlock);
    plan.stages = std::min(kStages, (shared - sums) / (stage * config.warps));
    if (plan.stages == kStages || plan.per_sm == 1) return plan;
  }
}

const std::vector<GemmConfig>& all_configs() {
  static const std::vector<GemmConfig> configs = [] {
    std::vector<GemmConfig> all;
    for (const auto [outputs, tokens] : kTileSizes) {
      const int warps = 4 * multiplying_warpgroups(outputs);
      for (int split : {1, 2, 4, 8}) {
        if (splits(outputs, tokens, split)) all.push_back({outputs, tokens, split, warps});
      }
    }
    for (const auto [outputs, tokens] : kStreamTileSizes) {
      for (int split : {1, 2}) {
        for (int warps : {4, 8}) all.push_back({outputs, tokens, split, warps});
      }
    }
    return all;
  }();
  return configs;
}

bool has_inputs(const GemmConfig& config, int64_t k) {
  const int groups = !config.streams() && config.outputs == 64 ? multiplying_warpgroups(config.outputs) : 1;
  return ceil_div(k, kBlockInputs) >= config.split * groups;
}

bool runs(const GemmConfig& config, int64_t k) {
  const auto& all = all_configs();
  return has_inputs(config, k) && std::find(all.begin(), all.end(), config) != all.end();
}

bool is_plausible(const GemmConfig& config, int64_t m, int64_t n) {
  const int64_t token_tiles = ceil_div(m, config.tokens), tiles = token_tiles * ceil_div(n, config.outputs);
  if (config.tokens > 8 && config.tokens / 2 > m) return false;
  if (token_tiles > 4 && config.tokens < 64) return false;
  return config.split == 1 || tiles <= 2 * kSms;
}

double estimate_microseconds(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k,
                             int64_t outliers) {
  return config.streams() ? estimate_stream(layout, config, m, n, k, outliers)
                          : estimate_tiles(layout, config, m, n, k, outliers);
}

GemmConfig choose_config(WeightLayout layout, int64_t m, int64_t n, int64_t k) {
  return *cheapest(
      all_configs(),
      [&](const GemmConfig& config) { return has_inputs(config, k) && is_plausible(config, m, n); },
      [&](const GemmConfig& config) { return estimate_microseconds(layout, config, m, n, k); });
}

}  // namespace tessera::cuda
