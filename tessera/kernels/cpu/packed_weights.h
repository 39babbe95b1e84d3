// Repacking of an integer layer's weights at load.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>

#include "tessera/format/quantized_linear.h"
#include "tessera/kernels/cpu/packed_layout.h"

namespace tessera {

/// Memory aligned to 64 bytes, or to huge pages when it is large.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  /// Zeros.
  explicit AlignedBytes(size_t bytes) : AlignedBytes(uninitialized(bytes)) { std::memset(data(), 0, size()); }
  /// For who writes every byte.
  static AlignedBytes uninitialized(size_t bytes);
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

/// All panels of a layer.
struct PackedWeights {
  PackedLayout layout = PackedLayout::kByte;
  int64_t n = 0, k = 0;
  int64_t k_padded = 0, group_size = 0;  ///< as in PackedPanel
  AlignedBytes codes;
  AlignedBytes groups;

  int64_t panels() const { return round_up(n, kPanel) / kPanel; }
  int64_t panel_bytes() const { return k_padded * kPanel / (layout == PackedLayout::kByte ? 1 : 2); }
  int64_t panel_group_bytes() const {
    return group_size > 0 ? k_padded / group_size * group_bytes(layout) : 0;
  }
  PackedPanel panel(int64_t i) const {
    return {layout, k_padded, group_size, codes.data() + i * panel_bytes(),
            groups.data() + i * panel_group_bytes()};
  }
};

/// Repacks. Four-bit groups whose size is no multiple of kKBlock are expanded to bytes, which is exact.
PackedWeights pack_weights(const QuantizedLinear& linear);

}  // namespace tessera
