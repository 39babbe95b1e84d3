// Codes and scales of quantized layers on every instruction set: shapes, remainders, extreme codes.
#include <fmt/format.h>

#include "tessera/kernels/cpu/packed_linear_check.h"

namespace tessera {
namespace {

TEST(PackedLinear, EightBitsMatchForEveryRemainder) {
  for_shapes([&](int64_t m, int64_t n, int64_t k) {
    SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k + 1);
    const auto layer = random_layer({.format = WeightFormat::kInt8, .n = n, .k = k + 1}, 1);
    expect_exact(layer, random_floats(m * (k + 1), 2), m);
  });
}

TEST(PackedLinear, FourBitsPerChannelMatchForEveryRemainder) {
  for_shapes([&](int64_t m, int64_t n, int64_t k) {
    SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k);
    expect_exact(random_layer({.n = n, .k = k}, 3), random_floats(m * k, 4), m);
  });
}

TEST(PackedLinear, GroupsMatchForEveryRemainder) {
  for (bool zeros : {false, true}) {
    for (int64_t group : {32, 64, 128}) {
      for (int64_t groups : {1, 3, 11}) {
        for (int64_t m : kTokens) {
          const int64_t n = kOutputs[static_cast<size_t>(m + groups) % std::size(kOutputs)];
          SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << groups << " groups of " << group);
          const auto layer = random_layer({.format = WeightFormat::kUint4Grouped,
                                           .n = n,
                                           .k = groups * group,
                                           .group_size = group,
                                           .group_zeros = zeros},
                                          5);
          expect_exact(layer, random_floats(m * layer.k, 6), m);
        }
      }
    }
  }
}

TEST(PackedLinear, GroupsOfOtherSizesAreExpandedToBytesAndMatch) {
  for (int64_t group : {2, 3, 6, 16, 48}) {
    const auto layer = random_layer({.format = WeightFormat::kUint4Grouped,
                                     .n = 37,
                                     .k = 10 * group,
                                     .group_size = group,
                                     .group_zeros = true},
                                    7);
    expect_exact(layer, random_floats(5 * layer.k, 8), 5);
    const KernelInfo info = info_of(layer, CpuIsa::kGeneric);
    EXPECT_EQ(info.kernel, fmt::format("w4a8 g{}, expanded to int8", group));
    EXPECT_EQ(info.weight_bits, 8);
  }
}

TEST(PackedLinear, LongRowsCrossTheChunksOfK) {
  for (WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
    for (int64_t m : {1, 2, 40}) {
      const auto layer = random_layer({.format = format, .n = 33, .k = 3 * 1408, .group_size = 1408}, 9);
      expect_exact(layer, random_floats(m * layer.k, 10), m);
    }
  }
}

TEST(PackedLinear, ExtremeCodesDoNotSaturate) {
  const int64_t k = 1408;
  std::vector<float> inputs[] = {std::vector<float>(static_cast<size_t>(3 * k), 1.0f),
                                 std::vector<float>(static_cast<size_t>(3 * k), -1.0f),
                                 std::vector<float>(static_cast<size_t>(3 * k))};
  for (size_t i = 0; i < inputs[2].size(); ++i) inputs[2][i] = i % 2 ? 1.0f : -1.0f;
  for (const auto& x : inputs) {
    for (int code : {-8, -1, 0, 7}) {
      expect_exact(random_layer({.n = 40, .k = k, .extreme = code}, 11), x, 3);
    }
    for (int code : {0, 8, 15}) {
      for (bool zeros : {false, true}) {
        expect_exact(random_layer({.format = WeightFormat::kUint4Grouped,
                                   .n = 40,
                                   .k = k,
                                   .group_size = 128,
                                   .group_zeros = zeros,
                                   .extreme = code},
                                  12),
                     x, 3);
      }
    }
    for (int code : {-127, 0, 127}) {
      expect_exact(random_layer({.format = WeightFormat::kInt8, .n = 40, .k = k, .extreme = code}, 13), x, 3);
    }
  }
}

TEST(PackedLinear, OperandsOfMinus128Match) {
  // Codes -8 times a group scale of 16.
  auto layer = random_layer(
      {.format = WeightFormat::kUint4Grouped, .n = 40, .k = 256, .group_size = 128, .extreme = 0}, 14);
  for (int8_t& s : layer.group_scale.as<int8_t>()) s = 16;
  for (int64_t group_size : {int64_t{128}, int64_t{0}}) {
    if (group_size == 0) {  // the same weights through the byte kernel: groups of 2 are expanded
      std::vector<int8_t> scales(static_cast<size_t>(40 * 128), 16);
      layer.group_size = 2;
      layer.group_scale = Tensor::from<int8_t>(scales, {40, 128});
    }
    expect_exact(layer, std::vector<float>(13 * 256, 1.0f), 13);
    expect_exact(layer, std::vector<float>(256, -1.0f), 1);
  }
}

TEST(PackedLinear, CodesOfMinus128Match) {
  // Negative rows have code -128 everywhere with asymmetric activations; against the extremes of each format.
  const ActivationFormat asymmetric{8, false, true};
  const std::vector<float> x(13 * 256, -1.0f);
  for (int code : {-127, 127}) {
    const LayerOptions options{
        .format = WeightFormat::kInt8, .n = 40, .k = 256, .activation = asymmetric, .extreme = code};
    expect_exact(random_layer(options, 33), x, 13);
  }
  for (int code : {0, 15}) {
    for (bool zeros : {false, true}) {
      const LayerOptions options{.format = WeightFormat::kUint4Grouped,
                                 .n = 40,
                                 .k = 256,
                                 .group_size = 64,
                                 .activation = asymmetric,
                                 .group_zeros = zeros,
                                 .extreme = code};
      expect_exact(random_layer(options, 34), x, 13);
    }
    expect_exact(random_layer({.n = 40, .k = 256, .activation = asymmetric, .extreme = code}, 35), x, 13);
  }
}

}  // namespace
}  // namespace tessera
