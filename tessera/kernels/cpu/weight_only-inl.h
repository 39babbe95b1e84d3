// Float activations times packed integer weights, for every instruction set. Included like row_ops-inl.h,
// behind float_matmul-inl.h, whose register tiles do the work.
//
//   out[m][n] = sum_k x[m][k] * w8[n][k]          w8 in floats, where group scales are float16
//
// A register of 16 outputs x 4 inputs of a packed panel becomes floats with a shift, a mask and a conversion
// (or a look-up) for each input, and one multiply-add, exact, for scale and zero point. One tile of tokens
// expands in registers; more of them share a chunk of K expanded into scratch (32 KiB).
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int64_t kWeightsAhead = 2048;  ///< bytes from the codes in hand to those that are prefetched

/// A panel of nibbles within one group: row i holds w8 of input i. (Masks and shifts rather than % and /:
/// with them g++ 12 sees that the four rows of an unrolled step have constant shifts.)
struct NibbleRows {
  const uint8_t* codes;
  Lanes scale[2], offset[2];  ///< w8 = u * scale + offset, exact in floats

  Lanes load(int64_t i, int half) const {
    const uint8_t* quad = codes + (i >> 2) * (2 * kPanel);
    if ((i & 3) == 0) __builtin_prefetch(quad + kWeightsAhead);
    const Lanes u = Lanes::from_nibbles(quad, static_cast<int>(i & 3) * 8 + 4 * half);
    return fused(u, scale[half], offset[half]);
  }
};

/// A panel of bytes.
struct ByteRows {
  const uint8_t* codes;

  Lanes load(int64_t i, int half) const {
    const uint8_t* quad = codes + (i >> 2) * (4 * kPanel) + 64 * half;
    if ((i & 3) == 0) __builtin_prefetch(quad + kWeightsAhead);
    return Lanes::from_words(quad, static_cast<int>(i & 3) * 8, 255) - Lanes::set(128);
  }
};

NibbleRows nibble_rows(const PackedPanel& panel, int64_t k) {
  NibbleRows rows{panel.codes + nibble_offset(0, k), {}, {}};
  const bool floats = panel.layout == PackedLayout::kNibbleFloat;
  for (int64_t half = 0; half < 2; ++half) {
    rows.scale[half] = Lanes::set(1);
    rows.offset[half] = Lanes::set(-8);
    if (panel.group_size == 0) continue;
    const uint8_t* group = panel.groups + k / panel.group_size * group_bytes(panel.layout);
    const uint8_t* zero = group + group_bytes(panel.layout) - kPanel + kLanes * half;
    rows.scale[half] = floats ? Lanes::load(reinterpret_cast<const Half*>(group) + kLanes * half)
                              : Lanes::from_bytes(group + kLanes * half, 0, 255);
    rows.offset[half] = Lanes::set(0) - rows.scale[half] * Lanes::from_bytes(zero, 0, 255);
  }
  return rows;
}

/// out += x [m, k] * rows [k].
template <class Rows>
void weight_only_chunk(const Rows& rows, const FloatRows& x, int64_t m, int64_t k, float* out) {
  if (m <= kTileRows) return float_tiles(x, m, rows, k, out, kPanel);
  alignas(64) float expanded[kFloatChunk * kPanel];
  for (int64_t i = 0; i < k; ++i) {
    for (int half = 0; half < 2; ++half) rows.load(i, half).store(expanded + i * kPanel + half * kLanes);
  }
  float_tiles(x, m, StridedRows<float>{expanded, kPanel}, k, out, kPanel);
}

void weight_only_panel(const PackedPanel& panel, const FloatRows& x, int64_t m, int64_t k, float* out) {
  __builtin_memset(out, 0, sizeof(float) * static_cast<size_t>(m * kPanel));
  for (int64_t i = 0; i < k;) {
    int64_t count = k - i < kFloatChunk ? k - i : kFloatChunk;
    if (panel.group_size > 0) {  // a chunk ends where its group does
      const int64_t left = panel.group_size - i % panel.group_size;
      count = count < left ? count : left;
    }
    const FloatRows part{x.data + i, x.stride};
    if (panel.layout == PackedLayout::kByte) {
      weight_only_chunk(ByteRows{panel.codes + byte_offset(0, i)}, part, m, count, out);
    } else {
      weight_only_chunk(nibble_rows(panel, i), part, m, count, out);
    }
    i += count;
  }
}

}  // namespace
}  // namespace tessera
