// Which tiles the kernels for 9.0 have: the one place that lists them.
#pragma once

namespace tessera::cuda {

/// Outputs x tokens of a block.
struct TileSize {
  int outputs, tokens;
  friend constexpr bool operator==(const TileSize&, const TileSize&) = default;
};

/// Of the kernel on wgmma. tile_costs.inc has a line for each.
constexpr TileSize kTileSizes[] = {{64, 64},   {64, 80},   {64, 128},  {64, 144},  {128, 32},  {128, 48},
                                   {128, 64},  {128, 96},  {128, 128}, {128, 144}, {128, 176}, {128, 256},
                                   {192, 32},  {192, 48},  {192, 64},  {192, 80},  {192, 96},  {192, 128},
                                   {192, 144}, {192, 160}, {256, 80},  {256, 128}};
/// Of the kernel for few tokens.
constexpr TileSize kStreamTileSizes[] = {{32, 8}, {32, 16}, {32, 24}, {32, 32}, {32, 48}, {64, 8}, {64, 16}};

/// Warpgroups of a block of the kernel on wgmma that multiply.
constexpr int multiplying_warpgroups(int outputs) {
  return outputs == 192 ? 3 : 2;
}
/// Blocks of it that an SM holds: of small tiles two, so that one's start and end hide behind the other's
/// stream.
constexpr int tile_blocks_per_sm(int outputs, int tokens) {
  return outputs == 128 && tokens <= 64 ? 2 : 1;
}
/// True when the kernel on wgmma lets `split` blocks share a tile of this size along K. Left out is what
/// takes a stage off the ring and was never the best.
constexpr bool splits(int outputs, int tokens, int split) {
  switch (split) {
    case 1:
      return true;
    case 2:
      return outputs <= 192 && tokens <= 176;
    case 4:
      return (outputs == 64 && tokens == 128) || (outputs == 128 && tokens <= 128) ||
             (outputs == 192 && tokens <= 144);
    case 8:
      return outputs == 192 && tokens == 64;
    default:
      return false;
  }
}

/// True for tiles that exist with outliers, too. Two sums of the kernel for few tokens must fit in registers.
constexpr bool has_outliers(TileSize size) {
  if (size.outputs <= 64) return size.outputs * size.tokens <= 512;
  if (size.outputs == 128) return size.tokens <= 144;
  return size.outputs == 192 && (size.tokens == 64 || size.tokens == 80 || size.tokens == 128);
}
/// splits() with outliers: blocks share out a tile's groups of 8 tokens evenly.
constexpr bool splits_outliers(int outputs, int tokens, int split) {
  return splits(outputs, tokens, split) && split <= 4 && tokens % (8 * split) == 0;
}

}  // namespace tessera::cuda
