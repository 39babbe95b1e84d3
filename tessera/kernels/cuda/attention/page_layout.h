// Where keys and values of one head lie in a page on the device: one constexpr index map, shared by the
// kernel that stores them, the kernels that read them, and tests.
//
// Both are operands B [n, k] of mma.m16n8k16, laid down in the order in which a warp reads them: a page is
// copied to shared memory as it lies, and read there at full width. Lane 4 g + t owns row g of a tile of
// eight rows and a quarter of k, the t-th, in units of four: a unit is what the lane gives to one product.
// Units lie together in pieces of at most 16 bytes, which are loaded at once.
//
//   keys     n: the position, in the order of key_row(); k: the dimension
//   values   n: the dimension; k: the position. Four bits: a byte holds dimension i in the low nibble and
//            i + head_dim / 2 in the high one, so that no two tokens share a byte
//   scales   float [2][kPageTokens] behind each: scales, then zero points. Quantized formats alone
//
// Position p of a page is unit p % 16 / 4 of the quarter p / 16 of values, and stands in row key_row(p) of
// the keys, so that a lane finds the scores of its values' positions in its own registers.
#pragma once

#include <cstdint>

#include "tessera/format/kv_format.h"
#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/kv_pool.h"

namespace tessera::cuda {

/// An operand of `n` rows of `k` elements of `bits` bits.
struct Fragments {
  int bits, k;

  static constexpr int kUnit = 4;
  constexpr int unit_bytes() const { return kUnit * bits / 8; }
  /// Units of a lane in a row.
  constexpr int units() const { return k / (4 * kUnit); }
  /// Units that a lane loads at once.
  constexpr int piece_units() const {
    int count = 1;
    while (2 * count * unit_bytes() <= 16 && units() % (2 * count) == 0) count *= 2;
    return count;
  }
  constexpr int piece_bytes() const { return piece_units() * unit_bytes(); }
  /// Pieces of a lane in a row.
  constexpr int pieces() const { return units() / piece_units(); }
  /// Byte offset of a lane's piece of tile n / 8.
  constexpr int piece_offset(int tile, int piece, int lane) const {
    return ((tile * pieces() + piece) * 32 + lane) * piece_bytes();
  }
  /// Byte offset of the unit that holds elements 4 (k / 4) .. + 3 of row n.
  constexpr int unit_offset(int n, int column) const {
    const int quarter = column / (k / 4), unit = column % (k / 4) / kUnit;
    return piece_offset(n / 8, unit / piece_units(), 4 * (n % 8) + quarter) +
           unit % piece_units() * unit_bytes();
  }
};

/// The row of the keys in which position p of a page stands.
constexpr int key_row(int p) {
  return p % 16 / 2 * 8 + p / 16 * 2 + p % 2;
}
/// The position that stands in column c of tile j of the scores.
constexpr int score_position(int j, int c) {
  return c / 2 * 16 + 2 * j + c % 2;
}

/// Operands and offsets in bytes within the block of one head of one page.
struct PageLayout {
  KvFormat format;
  int head_dim;

  constexpr Fragments keys() const { return {kv_bits(format), head_dim}; }
  constexpr Fragments values() const {
    return {format == KvFormat::kInt4 ? 8 : kv_bits(format), static_cast<int>(kPageTokens)};
  }
  constexpr int value_rows() const { return format == KvFormat::kInt4 ? head_dim / 2 : head_dim; }
  constexpr int code_bytes() const { return static_cast<int>(kPageTokens) * head_dim * kv_bits(format) / 8; }
  constexpr int scale_bytes() const {
    return is_quantized(format) ? static_cast<int>(kPageTokens * sizeof(KvScale)) : 0;
  }

  constexpr int key_scales() const { return code_bytes(); }
  constexpr int values_begin() const { return code_bytes() + scale_bytes(); }
  constexpr int value_scales() const { return values_begin() + code_bytes(); }
  constexpr int bytes() const { return 2 * (code_bytes() + scale_bytes()); }
};

/// Query heads that one unit of decode has at most.
constexpr int kDecodeRows = 16;

/// Shared memory of a block of the decode kernel, by parts: out [pages][rows][head_dim], most and sum of each
/// row of each page, and for each page `slots` of half a block with a barrier each.
constexpr int decode_sum_bytes(int head_dim, int rows) {
  return kSpanPages * rows * (head_dim + 2) * static_cast<int>(sizeof(float));
}
constexpr int decode_shared_bytes(const PageLayout& layout, int rows, int slots) {
  return decode_sum_bytes(layout.head_dim, rows) +
         kSpanPages * slots * (layout.values_begin() + static_cast<int>(sizeof(uint64_t)));
}

}  // namespace tessera::cuda
