// What a GEMM configuration costs on an H200, estimated from its traffic and arithmetic. The constants come
// from bench/gpu (tune), so that shapes nobody timed are served as well as those that were.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/kernels/cuda/gemm.h"

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

/// Warpgroups of a block of the kernel on wgmma that multiply.
constexpr int multiplying_warpgroups(int rows) {
  return rows == 192 ? 3 : 2;
}
/// Blocks of it that an SM holds: of small tiles two, so that one's start and end hide behind the other's
/// stream.
constexpr int tile_blocks_per_sm(int rows, int tokens) {
  return rows == 128 && tokens <= 64 ? 2 : 1;
}
/// True when the kernel on wgmma lets `split` blocks share a tile of this size along K. Left out is what
/// takes a stage off the ring and was never the best.
constexpr bool splits(int rows, int tokens, int split) {
  switch (split) {
    case 1:
      return true;
    case 2:
      return rows <= 192 && tokens <= 176;
    case 4:
      return (rows == 64 && tokens == 128) || (rows == 128 && tokens <= 128) ||
             (rows == 192 && tokens <= 144);
    case 8:
      return rows == 192 && tokens == 64;
    default:
      return false;
  }
}

/// The same with outliers: blocks share out a tile's groups of 8 tokens evenly.
constexpr bool splits_outliers(int rows, int tokens, int split) {
  return splits(rows, tokens, split) && split <= 4 && tokens % (8 * split) == 0;
}

/// Every tile size with every split.
const std::vector<GemmConfig>& all_configs();
/// True when `config` is one of them and every block of a cluster has some of the k inputs.
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
