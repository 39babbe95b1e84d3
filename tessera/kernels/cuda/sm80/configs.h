// The tiles of the kernels for compute capability 8.0 and later, and which of them a product gets.
#pragma once

#include <cstdint>
#include <span>

#include "tessera/kernels/cuda/gemm.h"
#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda::sm80 {

/// How the eight warps of a block lie in its tile: along outputs, tokens and runs of K that they add up. A
/// warp has `strips` x 16 outputs and `groups` x 8 tokens.
struct TileShape {
  int output_warps, token_warps, input_warps, strips, groups;

  constexpr int warps() const { return output_warps * token_warps * input_warps; }
  constexpr int outputs() const { return output_warps * strips * kStripOutputs; }
  constexpr int tokens() const { return token_warps * groups * 8; }
};

/// From the smallest on.
constexpr TileShape kShapes[] = {{1, 1, 8, 2, 2}, {2, 1, 4, 2, 4}, {2, 2, 2, 2, 4},
                                 {4, 2, 1, 2, 4}, {4, 2, 1, 2, 8}, {4, 2, 1, 4, 8}};

/// Sums of outliers need as many registers as those of inputs: 128 x 128 stands in where the largest tile has
/// no room, and is the slower one elsewhere. Tiles of few tokens wait for weights, which products of 4-bit
/// codes do not make faster.
constexpr bool exists(const TileShape& shape, bool outliers, bool int4_products) {
  const int sums = shape.strips * shape.groups;
  return (outliers ? sums <= 16 : sums != 16) && (!int4_products || shape.tokens() >= 64);
}

/// Every tile, for 8-bit and for 4-bit products.
std::span<const GemmConfig> all_configs();

/// True when `config` is one of them and made for the problem.
bool runs(const GemmConfig& config, const GemmProblem& problem);

/// The tile that is expected to take the least time on `sms` multiprocessors.
/// `int4_products`: the device has instructions for them.
GemmConfig choose_config(const GemmProblem& problem, int sms, bool int4_products = false);

}  // namespace tessera::cuda::sm80
