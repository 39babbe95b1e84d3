// The order in which thread blocks take the tiles of a product.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tessera::cuda {

/// Division by a number that the host knows. A division by a register costs a warp 200 cycles and more, which
/// at the start of a kernel everybody waits for.
struct Divisor {
  uint32_t divisor = 1, reciprocal = ~0u;

  Divisor() = default;
  explicit Divisor(int number)
      : divisor(static_cast<uint32_t>(number)),
        reciprocal(static_cast<uint32_t>(std::min<uint64_t>((uint64_t{1} << 32) / divisor, ~0u))) {}

  struct Result {
    int quotient, remainder;
  };
  __device__ __forceinline__ Result divide(int number) const {
    // The reciprocal is rounded down: the quotient is right or one too small.
    uint32_t quotient = __umulhi(static_cast<uint32_t>(number), reciprocal);
    uint32_t remainder = static_cast<uint32_t>(number) - quotient * divisor;
    if (remainder >= divisor) {
      ++quotient;
      remainder -= divisor;
    }
    return {static_cast<int>(quotient), static_cast<int>(remainder)};
  }
};

struct TileIndex {
  int token, row;
};

/// Tiles are numbered tokens first within bands of 16 token tiles: blocks that run together share weights and
/// the codes of a band, which stays in L2.
struct TileOrder {
  static constexpr int kBand = 16;
  int token_tiles = 0, row_tiles = 0;
  Divisor band;                 ///< tiles of a band
  Divisor height, last_height;  ///< token tiles of a band but the last, and of the last

  TileOrder() = default;
  TileOrder(int tiles_of_tokens, int tiles_of_rows)
      : token_tiles(tiles_of_tokens),
        row_tiles(tiles_of_rows),
        band(kBand * tiles_of_rows),
        height(kBand),
        last_height((tiles_of_tokens - 1) % kBand + 1) {}

  __device__ __forceinline__ TileIndex at(int index) const {
    if (token_tiles == 1) return {0, index};  // the usual case of a start that everybody waits for
    const auto [number, within] = band.divide(index);
    const bool last = (number + 1) * kBand >= token_tiles;
    const auto [row, token] = (last ? last_height : height).divide(within);
    return {number * kBand + token, row};
  }
};

}  // namespace tessera::cuda
