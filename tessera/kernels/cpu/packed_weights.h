// The weights of an integer layer in the order in which the CPU kernels read them.
//
// Outputs are cut into panels of 32. Within a panel the codes of four consecutive inputs of one output are
// neighbours (one 32-bit lane of vpdpbusd), outputs come next, inputs last:
//
//   kByte    byte  (k / 4) * 128 + (n % 32) * 4 + k % 4                  w8 + 128, one byte a code
//   kNibble  byte  (k / 4) * 64 + (n % 16) * 4 + k % 4,  low nibble for n % 32 < 16, else high
//                                                                         u = w + 8, or u of a group
//
// so that one 64-byte line of nibbles gives two registers of 16 outputs with an AND and a shift. Group scales
// and zero points follow the same panels: [panel][group][32 scales, 32 zero points], a byte each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tessera/format/quantized_linear.h"

namespace tessera {

constexpr int64_t kPanel = 32;   ///< outputs a panel
constexpr int64_t kKBlock = 32;  ///< k is padded to a multiple of this; groups are multiples of it
/// Largest K for which |acc| <= 128 * 128 * K stays below 2^31.
constexpr int64_t kMaxIntegerK = 131071;

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

/// Memory aligned to 64 bytes, or to huge pages when it is large. Zeroed.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(size_t bytes);
  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const;
  };
  std::unique_ptr<uint8_t[], Free> data_;
  size_t size_ = 0;
};

struct PackedWeights {
  enum class Layout : uint8_t {
    kByte,          ///< w8 + 128
    kNibble,        ///< w8 + 8
    kNibbleGrouped  ///< u; w8 = scale * (u - zero point)
  };
  Layout layout = Layout::kByte;
  int64_t n = 0, k = 0;
  int64_t k_padded = 0;    ///< k rounded up to kKBlock; padding meets codes that are zero
  int64_t group_size = 0;  ///< kNibbleGrouped: a multiple of kKBlock
  AlignedBytes codes;
  AlignedBytes groups;

  int64_t panels() const { return round_up(n, kPanel) / kPanel; }
  int64_t panel_bytes() const { return k_padded * kPanel / (layout == Layout::kByte ? 1 : 2); }
  const uint8_t* panel_codes(int64_t panel) const { return codes.data() + panel * panel_bytes(); }
  /// Scales of group 0 of `panel`; those of the next group are 2 * kPanel bytes on.
  const uint8_t* panel_groups(int64_t panel) const {
    return groups.data() + panel * (k_padded / group_size) * 2 * kPanel;
  }
};

/// Repacks. Four-bit groups whose size is no multiple of kKBlock are expanded to bytes, which is exact.
/// Throws Error when K exceeds kMaxIntegerK.
PackedWeights pack_weights(const QuantizedLinear& linear);

}  // namespace tessera
