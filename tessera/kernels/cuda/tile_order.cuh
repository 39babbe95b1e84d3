// The order in which thread blocks take the tiles of a product.
#pragma once

namespace tessera::cuda {

struct TileIndex {
  int token, row;
};

/// Tiles are numbered tokens first within bands of 16 token tiles: blocks that run together share weights and
/// the codes of a band, which stays in L2.
__device__ __forceinline__ TileIndex tile_at(int index, int token_tiles, int row_tiles) {
  constexpr int kBand = 16;
  const int band = index / (kBand * row_tiles), within = index - band * kBand * row_tiles;
  const int height = min(kBand, token_tiles - band * kBand);
  return {band * kBand + within % height, within / height};
}

}  // namespace tessera::cuda
