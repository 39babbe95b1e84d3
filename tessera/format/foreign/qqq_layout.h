// The weight layout of QQQ checkpoints (QQQ repository, vLLM 0.5.4 to 0.10, GPTQModel): where each code and
// scale stands.
//
// "P.B" is int32 [K/16, 2N]: rows of 16 inputs, words of eight codes in the order in which the lanes of an
// m16n8k16 int8 tensor-core instruction want them. N is a multiple of 64, K of 16. The maps are constexpr so
// that packer, reader and test share one definition.
#pragma once

#include <cmath>
#include <cstdint>

#include "tessera/base/dtype.h"

namespace tessera::qqq {

/// Position of a code inside B.
struct CodePosition {
  int64_t row;   ///< of B: k / 16
  int64_t word;  ///< of the row, 0 .. 2N - 1
  int nibble;    ///< of the word, 0 = least significant

  friend constexpr bool operator==(const CodePosition&, const CodePosition&) = default;
};

/// Where the code of input k, output n stands. The two modes order the nibbles of a word differently.
constexpr CodePosition code_position(int64_t k, int64_t n, bool grouped) {
  const int64_t r = k % 16;
  const int64_t lane = 4 * (n % 8) + r / 4;  // the warp lane that holds the code as its B fragment
  const int half = static_cast<int>(n % 16 / 8), byte = static_cast<int>(r % 4);
  return {k / 16, 128 * (n / 64) + 4 * lane + n % 64 / 16,
          grouped ? 2 * half + byte / 2 + 4 * (byte % 2) : 2 * byte + 1 - half};
}

/// Column of "P.s_group" [K/128, N] that holds the group scale of output n: an 8 x 8 transpose in blocks
/// of 64.
constexpr int64_t group_scale_column(int64_t n) {
  return n / 64 * 64 + n % 8 * 8 + n % 64 / 8;
}

/// Column of "P.s_channel" [1, N] that holds the scale of output n.
constexpr int64_t channel_scale_column(int64_t n) {
  const int64_t u = n % 32 / 8, i = n % 8 / 2, v = n % 2;
  return n / 32 * 32 + 8 * i + 2 * u + v;
}

/// The int8 weight that the grouped kernel makes of code u (0..15) and group scale s: rint((u - 8) * s), for
/// products in
/// [-128, 127.5). Beyond that the kernel's binary16 arithmetic wraps, and a reader must refuse the file.
inline int expand_grouped(int u, Half s) {
  return static_cast<int>(std::nearbyint(static_cast<float>(u - 8) * to_float(s)));
}

}  // namespace tessera::qqq
