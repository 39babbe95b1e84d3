// Repacking of an integer layer.
#include "tessera/kernels/cpu/packed_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
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

/// Where the codes of the outputs of a panel begin; outputs that a last panel lacks have zeros.
using PanelRows = std::array<const uint8_t*, kPanel>;

/// Up to `Word` of a row's bytes, zeros behind its end.
template <class Word>
Word load(const uint8_t* row, int64_t at, int64_t bytes) {
  Word word = 0;
  if (at < bytes)
    std::memcpy(&word, row + at, static_cast<size_t>(std::min<int64_t>(sizeof word, bytes - at)));
  return word;
}

void pack_bytes(const PanelRows& rows, int64_t k, int64_t k_padded, uint8_t* out) {
  for (int64_t at = 0; at < k_padded; at += 4) {
    for (int64_t n = 0; n < kPanel; ++n) {
      const uint32_t codes = load<uint32_t>(rows[static_cast<size_t>(n)], at, k) ^ 0x80808080u;
      std::memcpy(out + byte_offset(n, at), &codes, sizeof codes);
    }
  }
}

void pack_byte_panel(const QuantizedLinear& linear, int64_t panel, PackedWeights& packed) {
  const auto k = static_cast<size_t>(packed.k);
  std::vector<int8_t> codes(kPanel * k);
  PanelRows rows;
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t n = panel * kPanel + static_cast<int64_t>(i);
    if (n < packed.n) expand_row(linear, n, std::span(codes).subspan(i * k, k));
    rows[i] = reinterpret_cast<const uint8_t*>(codes.data()) + i * k;
  }
  pack_bytes(rows, packed.k, packed.k_padded, packed.codes.data() + panel * packed.panel_bytes());
}

/// The four nibbles of `low` and of `high`, neighbours in memory, as the halves of four bytes.
uint32_t interleave(uint64_t low, uint64_t high) {
  uint64_t both = (low & 0xffff) | (high & 0xffff) << 32;
  both = (both | both << 8) & 0x00ff00ff00ff00ff;
  both = (both | both << 4) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<uint32_t>(both | both >> 28);
}

void pack_nibbles_of(const PanelRows& rows, int64_t k, int64_t k_padded, uint32_t flip, uint8_t* out) {
  constexpr int64_t kCodes = 16;  // of a row at once
  for (int64_t at = 0; at < k_padded; at += kCodes) {
    for (int64_t n = 0; n < kPanel / 2; ++n) {
      const auto low = load<uint64_t>(rows[static_cast<size_t>(n)], at / 2, k / 2);
      const auto high = load<uint64_t>(rows[static_cast<size_t>(n + kPanel / 2)], at / 2, k / 2);
      for (int64_t i = 0; i < kCodes / 4; ++i) {
        const uint32_t codes = interleave(low >> 16 * i, high >> 16 * i) ^ flip;
        std::memcpy(out + nibble_offset(n, at + 4 * i), &codes, sizeof codes);
      }
    }
  }
}

void pack_nibble_panel(const QuantizedLinear& linear, int64_t panel, PackedWeights& packed) {
  const std::vector<uint8_t> none(static_cast<size_t>(packed.k / 2));
  const auto codes = linear.qweight.as<uint8_t>();
  PanelRows rows;
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t n = panel * kPanel + static_cast<int64_t>(i);
    rows[i] = n < packed.n ? codes.data() + n * packed.k / 2 : none.data();
  }
  // Two's complement becomes an offset by 8.
  const uint32_t flip = linear.weight_format == WeightFormat::kInt4 ? 0x88888888 : 0;
  pack_nibbles_of(rows, packed.k, packed.k_padded, flip, packed.codes.data() + panel * packed.panel_bytes());
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

AlignedBytes AlignedBytes::uninitialized(size_t bytes) {
  AlignedBytes memory;
  const size_t alignment = alignment_for(bytes);
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  memory.size_ = bytes;
  memory.data_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, rounded)));
  if (!memory.data_) throw std::bad_alloc();
  // Fewer TLB misses while weights stream from memory; merely advice, so its failure does not matter.
  if (alignment == kHugePage) madvise(memory.data(), rounded, MADV_HUGEPAGE);
  return memory;
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
  packed.codes = AlignedBytes::uninitialized(static_cast<size_t>(packed.panels() * packed.panel_bytes()));
  if (packed.layout == PackedLayout::kNibbleGrouped || packed.layout == PackedLayout::kNibbleFloat) {
    packed.group_size = linear.group_size;
    pack_groups(linear, packed);
  }
  const auto pack_panel = packed.layout == PackedLayout::kByte ? pack_byte_panel : pack_nibble_panel;
  parallel_for(packed.panels(), [&](int64_t panel) { pack_panel(linear, panel, packed); });
  return packed;
}

}  // namespace tessera
