// The order in which the CPU kernels read the weights of an integer layer.
//
// Outputs are cut into panels of 32. Within a panel the codes of four consecutive inputs of one output are
// neighbours (one 32-bit lane of vpdpbusd), outputs come next, inputs last:
//
//   kByte    byte  (k / 4) * 128 + (n % 32) * 4 + k % 4                  w8 + 128, one byte a code
//   kNibble  byte  (k / 4) * 64 + (n % 16) * 4 + k % 4,  low nibble for n % 32 < 16, else high
//                                                                         u = w + 8, or u of a group
//
// so that one 64-byte line of nibbles gives two registers of 16 outputs with an AND and a shift. Group scales
// and zero points follow the same panels: [panel][group][32 scales, 32 zero points], a byte each, but for
// scales of kNibbleFloat: two.
#pragma once

#include <cstdint>

namespace tessera {

constexpr int64_t kPanel = 32;   ///< outputs a panel
constexpr int64_t kKBlock = 32;  ///< k is padded to a multiple of this; groups are multiples of it

constexpr int64_t byte_offset(int64_t n, int64_t k) {
  return (k / 4) * (4 * kPanel) + n % kPanel * 4 + k % 4;
}
constexpr int64_t nibble_offset(int64_t n, int64_t k) {
  return (k / 4) * (2 * kPanel) + n % (kPanel / 2) * 4 + k % 4;
}
constexpr bool in_high_nibble(int64_t n) {
  return n % kPanel >= kPanel / 2;
}
constexpr int64_t round_up(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

enum class PackedLayout : uint8_t {
  kByte,           ///< w8 + 128
  kNibble,         ///< w8 + 8
  kNibbleGrouped,  ///< u; w8 = scale * (u - zero point)
  kNibbleFloat     ///< the same with float16 scales, for float activations
};

/// Bytes of a panel's group: kPanel scales, kPanel zero points.
constexpr int64_t group_bytes(PackedLayout layout) {
  return layout == PackedLayout::kNibbleFloat ? 3 * kPanel : 2 * kPanel;
}

/// The weights of kPanel outputs.
struct PackedPanel {
  PackedLayout layout = PackedLayout::kByte;
  int64_t k_padded = 0;    ///< k rounded up to kKBlock; padding meets codes that are zero
  int64_t group_size = 0;  ///< kNibbleGrouped, kNibbleFloat: a multiple of kKBlock; others: 0
  const uint8_t* codes = nullptr;
  const uint8_t* groups = nullptr;  ///< [group][group_bytes()]: scales, zero points
};

}  // namespace tessera
