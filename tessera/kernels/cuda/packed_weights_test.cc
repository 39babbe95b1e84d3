// The index map of packed weights: a bijection that agrees with wgmma's fragments, and the packer that uses
// it.
#include "tessera/kernels/cuda/packed_weights.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>

#include "tessera/format/quantized_linear.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"

namespace tessera::cuda {
namespace {

TEST(PackedWeights, EveryCodeHasItsOwnPlace) {
  for (int bits : {4, 8}) {
    std::set<int> places;
    for (int row = 0; row < kStripOutputs; ++row) {
      for (int input = 0; input < kBlockInputs; ++input) {
        const CodePosition at = code_position(bits, row, input);
        ASSERT_LT(at.byte, strip_code_bytes(bits));
        places.insert(2 * at.byte + at.high_nibble);
      }
    }
    EXPECT_EQ(places.size(), static_cast<size_t>(kStripOutputs * kBlockInputs));
  }
}

TEST(PackedWeights, LanesReadTheRowsAndInputsOfTheirFragment) {
  // Lane 4 g + t: word 2 s + h of half p holds inputs 64 p + 32 s + 16 h + 4 t .. + 3 of rows g (+ 8).
  const int g = 5, t = 3, half = 1, step = 1, half_step = 0, byte = 2;
  const int word = fragment_offset(half, 4 * g + t) + 4 * (2 * step + half_step);
  const int input = 64 * half + 32 * step + 16 * half_step + 4 * t + byte;
  const CodePosition low = code_position(4, g, input), high = code_position(4, g + 8, input);
  EXPECT_EQ(low.byte, word + byte);
  EXPECT_FALSE(low.high_nibble);
  EXPECT_EQ(high.byte, word + byte);
  EXPECT_TRUE(high.high_nibble);
}

/// As the kernels expand four codes at once (expand.cuh): the codes of inputs k .. k + 3.
uint32_t expanded(const std::vector<uint8_t>& packed, const QuantizedLinear& linear, int64_t n, int64_t k) {
  const WeightLayout layout = layout_of(linear);
  const int row = static_cast<int>(n % kStripOutputs), input = static_cast<int>(k % kBlockInputs);
  const uint8_t* strip = packed.data() + block_offset(layout, linear.k, n / kBlockOutputs, k / kBlockInputs) +
                         n % kBlockOutputs / kStripOutputs * strip_bytes(layout);
  const CodePosition at = code_position(4, row, input);
  uint32_t codes;
  std::memcpy(&codes, strip + at.byte, sizeof codes);
  codes = (at.high_nibble ? codes >> 4 : codes) & 0x0F0F0F0Fu;
  const uint8_t* parameters = strip + group_offset(input / layout.group_size, row % 8) + row / 8 * 2;
  return (codes * parameters[0] + parameters[1] * 0x01010101u) ^ 0x80808080u;
}

TEST(PackedWeights, GroupedCodesExpandToTheWeights) {
  for (int64_t group_size : {32, 64, 256}) {
    for (bool zeros : {false, true}) {
      const QuantizedLinear linear = random_layer({.format = WeightFormat::kUint4Grouped,
                                                   .n = 70,
                                                   .k = 768,
                                                   .group_size = group_size,
                                                   .group_zeros = zeros},
                                                  3);
      const std::vector<uint8_t> packed = pack_weights(linear);
      ASSERT_EQ(packed.size(), static_cast<size_t>(packed_bytes(layout_of(linear), linear.n, linear.k)));
      std::vector<int8_t> w8(static_cast<size_t>(linear.k));
      for (int64_t n = 0; n < linear.n; ++n) {
        expand_row(linear, n, w8);
        for (int64_t k = 0; k < linear.k; k += 4) {
          uint32_t want;
          std::memcpy(&want, &w8[static_cast<size_t>(k)], sizeof want);
          ASSERT_EQ(expanded(packed, linear, n, k), want) << n << " " << k;
        }
      }
    }
  }
}

TEST(PackedWeights, PacksBytesWithRemainders) {
  QuantizedLinear linear;
  linear.n = 70;
  linear.k = 144;
  linear.weight_format = WeightFormat::kInt8;
  std::mt19937 rng(4);
  std::vector<int8_t> codes(static_cast<size_t>(linear.n * linear.k));
  for (auto& code : codes) code = static_cast<int8_t>(rng());
  linear.qweight = Tensor::from<int8_t>(codes, {linear.n, linear.k});
  const WeightLayout layout = layout_of(linear);
  const std::vector<uint8_t> packed = pack_weights(linear);
  for (int64_t n = 0; n < linear.n; ++n) {
    for (int64_t k = 0; k < linear.k; ++k) {
      const uint8_t* strip = packed.data() +
                             block_offset(layout, linear.k, n / kBlockOutputs, k / kBlockInputs) +
                             n % kBlockOutputs / kStripOutputs * strip_bytes(layout);
      const CodePosition at =
          code_position(8, static_cast<int>(n % kStripOutputs), static_cast<int>(k % kBlockInputs));
      ASSERT_EQ(static_cast<int8_t>(strip[at.byte]), codes[static_cast<size_t>(n * linear.k + k)]);
    }
  }
}

TEST(PackedWeights, OutliersLieAsOperandsAndArePadded) {
  std::set<int> places;
  for (int row = 0; row < kStripOutputs; ++row) {
    for (int column = 0; column < kOutlierColumns; ++column) places.insert(outlier_position(row, column));
  }
  EXPECT_EQ(places.size(), static_cast<size_t>(kStripOutputs * kOutlierColumns));
  EXPECT_EQ(*places.rbegin(), kOutlierStripBytes - 2);
  // Lane 4 g + t, word 2 h + r: row g + 8 r, columns 8 h + 2 t and + 1 of a step.
  EXPECT_EQ(outlier_position(8 + 5, 16 + 8 + 6), fragment_offset(1, 4 * 5 + 3) + 4 * 3);

  QuantizedLinear linear;
  linear.n = 70;
  linear.outlier_index = Tensor(DType::kI32, {40});
  linear.outlier_weight = Tensor(DType::kF16, {70, 40});
  linear.outlier_weight.as<Half>()[69 * 40 + 33] = to_half(1.5f);
  const std::vector<uint8_t> packed = pack_outliers(linear);
  EXPECT_EQ(padded_outliers(linear), 64);
  ASSERT_EQ(packed.size(), static_cast<size_t>(2 * 2 * kOutlierBlockBytes));
  const Half want = to_half(1.5f);
  EXPECT_EQ(std::memcmp(packed.data() + 3 * kOutlierBlockBytes + outlier_position(5, 1), &want, sizeof(want)),
            0);
}

TEST(PackedWeights, GroupSizesOfTheKernels) {
  QuantizedLinear linear;
  linear.weight_format = WeightFormat::kUint4Grouped;
  linear.group_size = 256;
  EXPECT_EQ(layout_of(linear), (WeightLayout{4, 128}));
  linear.group_size = 48;
  EXPECT_ANY_THROW(layout_of(linear));
}

}  // namespace
}  // namespace tessera::cuda
