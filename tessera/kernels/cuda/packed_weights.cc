// Packs QuantizedLinear codes into the kernels' tile order.
#include "tessera/kernels/cuda/packed_weights.h"

#include <algorithm>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/kernels/cuda/nibbles.h"

namespace tessera::cuda {
namespace {

/// Four neighbouring codes of a row, one a byte.
uint32_t load_codes(const uint8_t* from, int bits) {
  uint32_t codes = 0;
  std::memcpy(&codes, from, static_cast<size_t>(bits / 2));
  return bits == 8 ? codes : spread_nibbles(codes);
}

/// Scale and zero point of the group of output n that begins at `input`.
struct GroupParameters {
  int scale, zero;

  GroupParameters(const QuantizedLinear& linear, int64_t n, int64_t input) {
    const auto index = static_cast<size_t>(n * linear.groups() + input / linear.group_size);
    scale = linear.group_scale.as<int8_t>()[index];
    zero = linear.group_zero.empty() ? 8 : linear.group_zero.as<uint8_t>()[index];
  }
  int shift() const { return group_shift(scale, zero); }
};

/// K is a multiple of 4.
void pack_codes(const QuantizedLinear& linear, WeightLayout layout, int64_t row_block, int64_t input_block,
                uint8_t* block) {
  const int64_t rows = std::min<int64_t>(kBlockOutputs, linear.n - row_block * kBlockOutputs);
  const int64_t inputs = std::min<int64_t>(kBlockInputs, linear.k - input_block * kBlockInputs);
  const auto* codes = reinterpret_cast<const uint8_t*>(linear.qweight.data());
  for (int row = 0; row < rows; ++row) {
    uint8_t* const strip = block + row / kStripOutputs * strip_bytes(layout);
    const int64_t first = (row_block * kBlockOutputs + row) * linear.k + input_block * kBlockInputs;
    for (int input = 0; input < inputs; input += 4) {
      const CodePosition at = code_position(layout.bits, row % kStripOutputs, input);
      uint32_t word, four = load_codes(codes + (first + input) * layout.bits / 8, layout.bits);
      if (layout.group_size > 0) {
        const GroupParameters group(linear, row_block * kBlockOutputs + row,
                                    input_block * kBlockInputs + input);
        four -= static_cast<uint32_t>(group.shift()) * 0x01010101u;
      }
      std::memcpy(&word, strip + at.byte, sizeof word);
      word |= four << (at.high_nibble ? 4 : 0);
      std::memcpy(strip + at.byte, &word, sizeof word);
    }
  }
}

void pack_groups(const QuantizedLinear& linear, WeightLayout layout, int64_t row_block, int64_t input_block,
                 uint8_t* block) {
  for (int group = 0; group < kBlockInputs / layout.group_size; ++group) {
    const int64_t input = input_block * kBlockInputs + group * layout.group_size;
    for (int row = 0; row < kBlockOutputs; ++row) {
      const int64_t n = row_block * kBlockOutputs + row;
      if (n >= linear.n || input >= linear.k) continue;
      const GroupParameters of(linear, n, input);
      uint8_t* strip = block + row / kStripOutputs * strip_bytes(layout);
      uint8_t* parameters = strip + group_offset(group, row % 8) + row % kStripOutputs / 8 * 2;
      parameters[0] = static_cast<uint8_t>(of.scale);
      parameters[1] = static_cast<uint8_t>(128 - of.scale * (of.zero - of.shift()));
    }
  }
}

}  // namespace

WeightLayout layout_of(const QuantizedLinear& linear) {
  if (linear.weight_format == WeightFormat::kInt8) return {8, 0};
  if (linear.weight_format == WeightFormat::kInt4) return {4, 0};
  const int64_t size = linear.group_size;
  if (size != 32 && size != 64 && size % kBlockInputs != 0) {
    throw Error("the CUDA kernels run groups of 32, 64 or a multiple of 128 inputs, not {}", size);
  }
  return {4, static_cast<int>(std::min<int64_t>(size, kBlockInputs))};
}

std::vector<uint8_t> pack_weights(const QuantizedLinear& linear) {
  const WeightLayout layout = layout_of(linear);
  std::vector<uint8_t> packed(static_cast<size_t>(packed_bytes(layout, linear.n, linear.k)));
  parallel_for(ceil_div(linear.n, kBlockOutputs), [&](int64_t row_block) {
    for (int64_t input_block = 0; input_block < ceil_div(linear.k, kBlockInputs); ++input_block) {
      uint8_t* block = packed.data() + block_offset(layout, linear.k, row_block, input_block);
      pack_codes(linear, layout, row_block, input_block, block);
      if (layout.group_size > 0) pack_groups(linear, layout, row_block, input_block, block);
    }
  });
  return packed;
}

int64_t padded_outliers(const QuantizedLinear& linear) {
  return ceil_div(static_cast<int64_t>(linear.outlier_index.as<int32_t>().size()), kOutlierColumns) *
         kOutlierColumns;
}

std::vector<uint8_t> pack_outliers(const QuantizedLinear& linear) {
  const auto count = static_cast<int64_t>(linear.outlier_index.as<int32_t>().size());
  const auto weights = linear.outlier_weight.as<Half>();
  const int64_t column_blocks = padded_outliers(linear) / kOutlierColumns;
  std::vector<uint8_t> packed(static_cast<size_t>(ceil_div(linear.n, kBlockOutputs) * column_blocks *
                                                  kBlockOutputs / kStripOutputs * kOutlierStripBytes));
  parallel_for(linear.n, [&](int64_t n) {
    for (int64_t f = 0; f < count; ++f) {
      const int64_t block = n / kBlockOutputs * column_blocks + f / kOutlierColumns;
      const int64_t strip = block * (kBlockOutputs / kStripOutputs) + n % kBlockOutputs / kStripOutputs;
      const int at =
          outlier_position(static_cast<int>(n % kStripOutputs), static_cast<int>(f % kOutlierColumns));
      std::memcpy(packed.data() + strip * kOutlierStripBytes + at,
                  &weights[static_cast<size_t>(n * count + f)], sizeof(Half));
    }
  });
  return packed;
}

}  // namespace tessera::cuda
