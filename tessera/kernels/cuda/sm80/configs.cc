// See configs.h. The constants were fitted to 300 timings on an H200 (four shapes, eight values of M, int4,
// g128 and int8), where choices are 0.7 % slower than the best tile on average, 14 % at worst.
#include "tessera/kernels/cuda/sm80/configs.h"

#include <algorithm>
#include <vector>

#include "tessera/kernels/cuda/cheapest.h"

namespace tessera::cuda::sm80 {
namespace {

const TileShape& shape_of(const GemmConfig& config) {
  return *std::find_if(std::begin(kShapes), std::end(kShapes), [&](const TileShape& shape) {
    return shape.outputs() == config.outputs && shape.tokens() == config.tokens;
  });
}

bool has_4bit_operands(const GemmProblem& p) {
  return p.code_bits == 4 && p.weights.layout == WeightLayout{4, 0};
}

/// Cycles of an SM for 128 inputs of a tile: its products and expansion and, only partly beside them, what
/// warps move through shared memory; or its operands' way from L2.
double block_cycles(const TileShape& shape, WeightLayout layout, bool int4_products) {
  constexpr double kProducts = 2048, kExpanded = 512, kL2Bytes = 64, kSharedBytes = 128, kSharedPart = 0.4;
  const double weights = shape.outputs() * static_cast<double>(block_bytes(layout)) / kBlockOutputs;
  const double codes = shape.tokens() * kBlockInputs, stored_codes = int4_products ? codes / 2 : codes;
  const double tile = static_cast<double>(kBlockInputs) * shape.outputs();
  const double products = tile * shape.tokens() / (int4_products ? 2 * kProducts : kProducts) +
                          (layout.bits == 4 ? tile * shape.token_warps / kExpanded : 0);
  const double shared =
      ((shape.output_warps + 1) * stored_codes + (shape.token_warps + 1) * weights) / kSharedBytes;
  return std::max(products + kSharedPart * shared, (weights + codes) / kL2Bytes);
}

/// Cycles of the product. Nothing hides the latencies of an SM's last tile, which small ones feel.
double product_cycles(const GemmProblem& p, const GemmConfig& config, int sms) {
  constexpr double kStartAndEnd = 1000, kSmallTail = 0.2;
  const TileShape& shape = shape_of(config);
  const PackedWeights& w = p.weights;
  const int64_t tiles = ceil_div(p.m, config.tokens) * ceil_div(w.n, config.outputs);
  const auto rounds = static_cast<double>(ceil_div(tiles, sms));
  const double tile = static_cast<double>(ceil_div(w.k, kBlockInputs)) *
                      block_cycles(shape, w.layout, config.family == KernelFamily::kSm80Int4);
  return (rounds + (shape.tokens() <= 64 ? kSmallTail : 0)) * tile + rounds * kStartAndEnd;
}

}  // namespace

std::span<const GemmConfig> all_configs() {
  static const std::vector<GemmConfig> configs = [] {
    std::vector<GemmConfig> all;
    for (KernelFamily family : {KernelFamily::kSm80Int4, KernelFamily::kSm80}) {
      for (const TileShape& shape : kShapes) {
        const bool int4_products = family == KernelFamily::kSm80Int4;
        if (exists(shape, false, int4_products) || exists(shape, true, int4_products))
          all.push_back({shape.outputs(), shape.tokens(), 1, shape.warps(), family});
      }
    }
    return all;
  }();
  return configs;
}

bool runs(const GemmConfig& config, const GemmProblem& problem) {
  const auto all = all_configs();
  if (std::find(all.begin(), all.end(), config) == all.end()) return false;
  const bool int4_products = config.family == KernelFamily::kSm80Int4;
  return (!int4_products || has_4bit_operands(problem)) &&
         exists(shape_of(config), problem.adds_outliers(), int4_products);
}

GemmConfig choose_config(const GemmProblem& problem, int sms, bool int4_products) {
  return *cheapest(
      all_configs(),
      [&](const GemmConfig& config) {
        return runs(config, problem) && (int4_products || config.family != KernelFamily::kSm80Int4);
      },
      [&](const GemmConfig& config) { return product_cycles(problem, config, sms); });
}

}  // namespace tessera::cuda::sm80
