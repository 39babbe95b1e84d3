// The layout of AutoAWQ's "gemm" checkpoints, for reader and writer: P.qweight I32 [K, N / 8], P.qzeros I32
// [G, N / 8], P.scales [G, N].
#pragma once

#include <cstdint>

namespace tessera::awq {

constexpr int kBits = 4;
constexpr int64_t kWordCodes = 8;

/// Where the code of output n stands among those of its row: words hold outputs 0 2 4 6 1 3 5 7 of eight.
constexpr int64_t position(int64_t n) {
  const int64_t output = n % kWordCodes;
  return n - output + output / 2 + output % 2 * (kWordCodes / 2);
}

/// The output whose code stands there.
constexpr int64_t output_at(int64_t place) {
  const int64_t nibble = place % kWordCodes;
  return place - nibble + nibble % (kWordCodes / 2) * 2 + nibble / (kWordCodes / 2);
}

}  // namespace tessera::awq
