// Order of weight codes in device memory: one constexpr index map, shared by packer, kernel and test.
//
// A block holds 64 outputs x 128 inputs, in the order in which the threads of a warpgroup read them as
// operand A of wgmma (see sm90a/wgmma.cuh): warp w, lane 4 g + t owns rows 16 w + g and 16 w + g + 8. Blocks
// follow one another along K, then along N; both are padded with zero codes.
//
//   4 bits: [half of 64 inputs][warp][lane][4 words]; word 2 s + h holds inputs 32 s + 16 h + 4 t .. + 3 of
//   its
//           half, one a byte: row g in the low nibbles, row g + 8 in the high ones. So one 16-byte load gives
//           the operands of two wgmma, and one mask (or one multiply-add and one xor) expands four codes.
//   8 bits: [step of 32 inputs][warp][lane][4 words] in operand order.
//   groups: after the codes, [group of the 128 inputs][warp][g]: one 32-bit word, the parameters of row g in
//           the low half and of row g + 8 in the high half; parameters are group_scale | group_zero << 8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera {
struct QuantizedLinear;
}

namespace tessera::cuda {

constexpr int kBlockRows = 64, kBlockInputs = 128;

/// Bytes of the codes in a block, and of the whole block.
constexpr int code_bytes(int bits) {
  return kBlockRows * kBlockInputs * bits / 8;
}
constexpr int block_bytes(WeightLayout layout) {
  const int groups = layout.group_size > 0 ? kBlockInputs / layout.group_size : 0;
  return code_bytes(layout.bits) + groups * kBlockRows * 2;
}

/// Offset of the 16 bytes that a lane of `warp` reads at once; `part` is a half (4 bits) or a step (8 bits).
constexpr int fragment_offset(int part, int warp, int lane) {
  return ((part * 4 + warp) * 32 + lane) * 16;
}

/// Offset of the parameter word of rows 16 warp + g and + 8 for the group `group` of the block.
constexpr int group_offset(int group, int warp, int g) {
  return code_bytes(4) + ((group * 4 + warp) * 8 + g) * 4;
}

/// Where code (row, input) of a block lies.
struct CodePosition {
  int byte = 0;
  bool high_nibble = false;
};

constexpr CodePosition code_position(int bits, int row, int input) {
  const int warp = row / 16, g = row % 8, lower_rows = row % 16 / 8;
  const int step = input / 32, half_step = input % 32 / 16, t = input % 16 / 4, byte = input % 4;
  const int lane = 4 * g + t;
  if (bits == 8) return {fragment_offset(step, warp, lane) + 4 * (2 * half_step + lower_rows) + byte, false};
  return {fragment_offset(step / 2, warp, lane) + 4 * (2 * (step % 2) + half_step) + byte, lower_rows == 1};
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Offset of the block that holds outputs 64 row_block .. and inputs 128 input_block .. of a layer with k
/// inputs.
constexpr int64_t block_offset(WeightLayout layout, int64_t k, int64_t row_block, int64_t input_block) {
  return (row_block * ceil_div(k, kBlockInputs) + input_block) * block_bytes(layout);
}

/// Bytes of a whole layer.
constexpr int64_t packed_bytes(WeightLayout layout, int64_t n, int64_t k) {
  return block_offset(layout, k, ceil_div(n, kBlockRows), 0);
}

/// The layout that holds `linear`.
WeightLayout layout_of(const QuantizedLinear& linear);
/// Codes and group parameters of `linear` in the order above, for PackedWeights::blocks. The group size must
/// be 32, 64 or a multiple of 128 (then its parameters are repeated).
std::vector<uint8_t> pack_weights(const QuantizedLinear& linear);

}  // namespace tessera::cuda
