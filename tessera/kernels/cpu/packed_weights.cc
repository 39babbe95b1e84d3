// Repacking of an integer layer.
#include "tessera/kernels/cpu/packed_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>

#include "tessera/base/parallel.h"
#include "tessera/format/reference.h"

namespace tessera {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t alignment_for(size_t bytes) {
  return bytes >= kHugePage ? kHugePage : 64;
}

/// Codes of output n as the nibbles that the layout stores.
void nibbles_of_row(const QuantizedLinear& linear, int64_t n, std::span<uint8_t> nibbles) {
  const auto bytes = linear.qweight.as<uint8_t>().subspan(static_cast<size_t>(n * linear.k / 2));
  const int flip = linear.weight_format == WeightFormat::kInt4 ? 8 : 0;  // two's complement -> offset by 8
  for (size_t k = 0; k < nibbles.size(); ++k) {
    nibbles[k] = static_cast<uint8_t>(unpack_nibble(bytes[k / 2], static_cast<int64_t>(k)) ^ flip);
  }
}

void pack_byte_panel(const QuantizedLinear& linear, int64_t panel, PackedWeights& packed) {
  uint8_t* out = packed.codes.data() + panel * packed.panel_bytes();
  std::vector<int8_t> row(static_cast<size_t>(packed.k));
  const int64_t end = std::min(packed.n, (panel + 1) * kPanel);
  for (int64_t n = panel * kPanel; n < end; ++n) {
    expand_row(linear, n, row);
    for (int64_t k = 0; k < packed.k; ++k) {
      out[byte_offset(n, k)] = static_cast<uint8_t>(row[static_cast<size_t>(k)] + 128);
    }
  }
}

void pack_nibble_panel(const QuantizedLinear& linear, int64_t panel, PackedWeights& packed) {
  uint8_t* out = packed.codes.data() + panel * packed.panel_bytes();
  std::vector<uint8_t> row(static_cast<size_t>(packed.k));
  const int64_t end = std::min(packed.n, (panel + 1) * kPanel);
  for (int64_t n = panel * kPanel; n < end; ++n) {
    nibbles_of_row(linear, n, row);
    const int shift = in_high_nibble(n) ? 4 : 0;
    for (int64_t k = 0; k < packed.k; ++k) {
      uint8_t& byte = out[nibble_offset(n, k)];
      byte = static_cast<uint8_t>(byte | row[static_cast<size_t>(k)] << shift);
    }
  }
}

void pack_groups(const QuantizedLinear& linear, PackedWeights& packed) {
  const int64_t groups = linear.groups();
  const auto scale_bytes = static_cast<int64_t>(size_of(linear.group_scale.dtype()));
  packed.groups = AlignedBytes(static_cast<size_t>(packed.panels() * packed.panel_group_bytes()));
  const std::byte* scale = linear.group_scale.data();
  const auto zero = linear.group_zero.as<uint8_t>();
  for (int64_t n = 0; n < packed.n; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      uint8_t* group = packed.groups.data() + ((n / kPanel) * groups + g) * group_bytes(packed.layout);
      const int64_t from = n * groups + g, output = n % kPanel;
      std::memcpy(group + output * scale_bytes, scale + from * scale_bytes, static_cast<size_t>(scale_bytes));
      group[kPanel * scale_bytes + output] = zero.empty() ? uint8_t{8} : zero[static_cast<size_t>(from)];
    }
  }
}

PackedLayout layout_for(const QuantizedLinear& linear) {
  if (linear.weight_format == WeightFormat::kInt4) return PackedLayout::kNibble;
  if (linear.weight_format == WeightFormat::kUint4Float) return PackedLayout::kNibbleFloat;
  const bool groups_fit = linear.group_size > 0 && linear.group_size % kKBlock == 0;
  return groups_fit ? PackedLayout::kNibbleGrouped : PackedLayout::kByte;
}

}  // namespace

AlignedBytes::AlignedBytes(size_t bytes) : size_(bytes) {
  const size_t alignment = alignment_for(bytes);
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  data_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, rounded)));
  if (!data_) throw std::bad_alloc();
  // Fewer TLB misses while weights stream from memory; merely advice, so its failure does not matter.
  if (alignment == kHugePage) madvise(data_.get(), rounded, MADV_HUGEPAGE);
  std::memset(data_.get(), 0, rounded);
}

void AlignedBytes::Free::operator()(uint8_t* p) const {
  std::free(p);
}

PackedWeights pack_weights(const QuantizedLinear& linear) {
  PackedWeights packed;
  packed.layout = layout_for(linear);
  packed.n = linear.n;
  packed.k = linear.k;
  packed.k_padded = round_up(linear.k, kKBlock);
  packed.codes = AlignedBytes(static_cast<size_t>(packed.panels() * packed.panel_bytes()));
  if (packed.layout == PackedLayout::kNibbleGrouped || packed.layout == PackedLayout::kNibbleFloat) {
    packed.group_size = linear.group_size;
    pack_groups(linear, packed);
  }
  const auto pack_panel = packed.layout == PackedLayout::kByte ? pack_byte_panel : pack_nibble_panel;
  parallel_for(packed.panels(), [&](int64_t panel) { pack_panel(linear, panel, packed); });
  return packed;
}

}  // namespace tessera
