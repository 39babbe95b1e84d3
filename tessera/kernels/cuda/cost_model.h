// What a GEMM configuration costs on an H200, estimated from its traffic and arithmetic. The constants come
// from bench/gpu (tune), so that shapes nobody timed are served as well as those that were.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/kernels/cuda/gemm.h"
#include "tessera/kernels/cuda/sm90a/tile_sizes.h"

namespace tessera::cuda {

constexpr int kSms = 132, kSharedPerSm = 228 * 1024, kSharedPerBlock = 227 * 1024;

/// A launch of the kernel for few tokens.
struct StreamPlan {
  int split = 1, warps = 8;
  int stages = 1;  ///< of each warp's ring, a block of 128 inputs each
  int per_sm = 1;  ///< blocks of threads that an SM holds at once
  /// Clusters along N that are resident with their fellows for other tokens.
  int clusters(int64_t token_tiles) const;
};
/// As many blocks an SM as there are, while their shared memory holds two stages. With outliers warps have
/// two sums.
StreamPlan plan_stream(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, bool outliers);

/// Every tile size with every split.
const std::vector<GemmConfig>& all_configs();
/// True when every block of a cluster has some of the k inputs, and so has, in the kernel on wgmma, every
/// warpgroup of a block with one 64-row block, which share K, too.
bool has_inputs(const GemmConfig& config, int64_t k);
/// True when `config` is one of all_configs() and has_inputs().
bool runs(const GemmConfig& config, int64_t k);
/// True for a configuration that may be the best: no tile of which more than half would be of tokens that do
/// not exist, no many small ones, none shared where tiles alone make two rounds. Others are neither timed nor
/// chosen.
bool is_plausible(const GemmConfig& config, int64_t m, int64_t n);
/// Expected microseconds of a launch in a graph, weights in device memory, codes in L2. Outliers, which come
/// beside the k inputs, take the place of four inputs each; blocks that share a tile do not share them.
double estimate_microseconds(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k,
                             int64_t outliers = 0);

}  // namespace tessera::cuda
