// Order of weight codes in device memory: one constexpr index map, shared by packer, kernel and test.
//
// A block holds 64 outputs x 128 inputs as four strips of 16 outputs, in the order in which a warp reads them
// as operand A of mma.m16n8k32, which is also what a warp of a warpgroup reads for wgmma (see
// sm90a/wgmma.cuh): lane 4 g + t owns rows g and g + 8 of its strip. Blocks follow one another along K, then
// along N; both are padded with zero codes.
//
//   4 bits: [half of 64 inputs][lane][4 words]; word 2 s + h holds inputs 32 s + 16 h + 4 t .. + 3 of
//           its half, one a byte: row g in the low nibbles, row g + 8 in the high ones. So one 16-byte
//           load gives the operands of two products, and one mask (or one multiply-add and one xor)
//           expands four codes.
//   8 bits: [step of 32 inputs][lane][4 words] in operand order.
//   groups: after the codes of the strip, [group of the 128 inputs][g]: one 32-bit word, row g in its low
//           half, row g + 8 in its high half, each scale | (128 - scale * zero) << 8, the second as the
//           expansion adds it. Codes and zero point are moved down by group_shift() (nibbles.h) first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera {
struct QuantizedLinear;
}

namespace tessera::cuda {

constexpr int kStripOutputs = 16, kBlockOutputs = 64, kBlockInputs = 128;

/// Bytes of the codes of a strip, of a whole strip and of a block.
constexpr int strip_code_bytes(int bits) {
  return kStripOutputs * kBlockInputs * bits / 8;
}
constexpr int strip_bytes(WeightLayout layout) {
  const int groups = layout.group_size > 0 ? kBlockInputs / layout.group_size : 0;
  return strip_code_bytes(layout.bits) + groups * kStripOutputs * 2;
}
constexpr int block_bytes(WeightLayout layout) {
  return kBlockOutputs / kStripOutputs * strip_bytes(layout);
}

/// Offset in a strip of the 16 bytes that a lane reads at once; `part` is a half (4 bits) or a step (8 bits).
constexpr int fragment_offset(int part, int lane) {
  return (part * 32 + lane) * 16;
}

/// Offset in a strip of the parameter word of rows g and g + 8 for the group `group` of the block.
constexpr int group_offset(int group, int g) {
  return strip_code_bytes(4) + (group * 8 + g) * 4;
}

/// Where code (row, input) of a strip lies.
struct CodePosition {
  int byte = 0;
  bool high_nibble = false;
};

constexpr CodePosition code_position(int bits, int row, int input) {
  const int g = row % 8, lower_rows = row / 8;
  const int step = input / 32, half_step = input % 32 / 16, t = input % 16 / 4, byte = input % 4;
  const int lane = 4 * g + t;
  if (bits == 8) return {fragment_offset(step, lane) + 4 * (2 * half_step + lower_rows) + byte, false};
  return {fragment_offset(step / 2, lane) + 4 * (2 * (step % 2) + half_step) + byte, lower_rows == 1};
}

constexpr int kOutlierColumns = 32, kOutlierStripBytes = kStripOutputs * kOutlierColumns * 2;
constexpr int kOutlierBlockBytes = kBlockOutputs / kStripOutputs * kOutlierStripBytes;

/// Byte offset in a strip of the outlier weight (row, column).
constexpr int outlier_position(int row, int column) {
  const int step = column / 16, high_columns = column % 16 / 8, t = column % 8 / 2;
  return fragment_offset(step, 4 * (row % 8) + t) + 4 * (2 * high_columns + row / 8) + 2 * (column % 2);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Tokens of a tile when m are cut evenly into as few tiles of at most `most` as possible. Even, because the
/// copy engine fills rows that do not exist more slowly than it copies others.
constexpr int tile_tokens(int64_t m, int most) {
  return static_cast<int>(ceil_div(m, ceil_div(m, most)));
}

/// Offset of the block that holds outputs 64 row_block .. and inputs 128 input_block .. of a layer with k
/// inputs.
constexpr int64_t block_offset(WeightLayout layout, int64_t k, int64_t row_block, int64_t input_block) {
  return (row_block * ceil_div(k, kBlockInputs) + input_block) * block_bytes(layout);
}

/// Bytes of a whole layer.
constexpr int64_t packed_bytes(WeightLayout layout, int64_t n, int64_t k) {
  return block_offset(layout, k, ceil_div(n, kBlockOutputs), 0);
}

/// The layout that holds `linear`.
WeightLayout layout_of(const QuantizedLinear& linear);
/// Codes and group parameters of `linear` in the order above, for PackedWeights::blocks. The group size must
/// be 32, 64 or a multiple of 128 (then its parameters are repeated).
std::vector<uint8_t> pack_weights(const QuantizedLinear& linear);
/// Outlier columns of the layer when padded with zeros, for Outliers::count.
int64_t padded_outliers(const QuantizedLinear& linear);
/// Outlier weights of `linear` in the order above, for Outliers::weights.
std::vector<uint8_t> pack_outliers(const QuantizedLinear& linear);

}  // namespace tessera::cuda
