// The grid of weights: ranges, degenerate groups, the integer operand, and that searching never loses.
#include "tessera/quant/grid/weight_grid.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"
#include "tessera/format/reference.h"

namespace tessera {
namespace {

double weighted_error(const WeightGrid& grid, const at::Tensor& weight, const at::Tensor& importance) {
  return ((fake_quantize_weight(grid, weight) - weight).square() * importance).sum().item<double>();
}

TEST(WeightGrid, PerRowCodesReachPlusMinusSeven) {
  const at::Tensor weight = at::tensor({-7.0f, 7.0f, 3.4f, 3.6f, 0.0f, 0.0f, 0.0f, 0.0f}).view({2, 4});
  const WeightGrid grid = fit_grid(weight, {4, 0}, {});
  EXPECT_TRUE(at::equal(round_to_grid(grid, weight)[0], at::tensor({-7, 7, 3, 4}, at::kChar)));
  EXPECT_TRUE(at::equal(round_to_grid(grid, weight)[1], at::zeros({4}, at::kChar)));
  EXPECT_TRUE(at::isfinite(grid.scale).all().item<bool>());
}

/// "QLLM", quantizers: the zero point lies within the codes, no weight is off by more than half a step.
TEST(WeightGrid, AsymmetricRowsHaveZeroPoints) {
  at::manual_seed(4);
  at::Tensor weight = at::randn({6, 64}) + at::tensor({0.0f, 1.0f, -2.0f, 9.0f, -9.0f, 0.0f}).unsqueeze(1);
  weight[5].zero_();
  for (const int bits : {4, 5, 6, 7}) {
    const WeightGrid grid = fit_grid(weight, {bits, 0, false}, {});
    const at::Tensor codes = round_to_grid(grid, weight), error = (dequantize(grid, codes) - weight).abs();
    EXPECT_TRUE((error <= grid.scale.unsqueeze(1) * 0.5001).all().item<bool>());
    EXPECT_GE(grid.zero.min().item<float>(), 0);
    EXPECT_LE(grid.zero.max().item<float>(), (1 << bits) - 1);
    const QuantizedLinear linear = make_quantized_linear(grid, codes, {bits, false, true}, {});
    EXPECT_NO_THROW(linear.validate("test"));
    std::vector<int8_t> w8(64);
    for (int64_t n = 0; n < 6; ++n) {
      expand_row(linear, n, w8);
      EXPECT_TRUE(std::equal(w8.begin(), w8.end(), codes[n].data_ptr<int8_t>()));
      EXPECT_EQ(linear.row_sum.as<int32_t>()[static_cast<size_t>(n)], codes[n].sum().item<int>());
    }
  }
}

/// What GPUs run, on the CPU.
TEST(WeightGrid, OperatorsRoundAsTheLoopsDo) {
  at::manual_seed(9);
  at::Tensor weight = at::randn({40, 256});
  weight[3].zero_();
  for (const WeightScheme scheme : {WeightScheme{4, 0}, WeightScheme{4, 0, false}, WeightScheme{8, 0},
                                    WeightScheme{4, 64}, WeightScheme{4, 64, false}}) {
    const WeightGrid grid = fit_grid(weight, scheme, {.clip = Clip::kMse});
    EXPECT_TRUE(at::equal(nearest_codes(weight, grid.cells()).to(at::kChar), round_to_grid(grid, weight)));
  }
}

TEST(WeightGrid, T8_DegenerateGroups) {
  at::manual_seed(1);
  at::Tensor weight = at::randn({6, 128});
  weight[0].zero_();
  weight[1].narrow(0, 0, 64).zero_();
  weight[2].abs_();
  weight[3].mul_(1e-3).narrow(0, 64, 64).mul_(1e5);
  weight[4].fill_(-0.7);
  weight[5].mul_(1e-40);
  for (const bool search : {false, true}) {
    const WeightGrid grid = fit_grid(weight, {4, 64}, {.search = search});
    const at::Tensor codes = round_to_grid(grid, weight);
    EXPECT_TRUE(at::isfinite(grid.scale).all().item<bool>());
    EXPECT_EQ(codes[0].abs().max().item<int>(), 0);
    EXPECT_EQ(codes[1].narrow(0, 0, 64).abs().max().item<int>(), 0);
    EXPECT_NO_THROW(make_quantized_linear(grid, codes, {}, {}).validate("test"));
  }
}

/// QQQ's group rule, u = rint(w / (max / 7.5)) + 8: the largest weight is clipped to 7, its negative gets -8.
TEST(WeightGrid, T8_ExtremesOfAGroup) {
  at::Tensor weight = at::full({2, 32}, 1.0f);
  weight[0][0] = 7.5f;
  weight[1][0] = -7.5f;
  const WeightGrid grid{{4, 32}, at::full({2}, 1.0f / 15), at::full({2, 1}, 15.0f), {}};
  const at::Tensor codes = round_to_grid(grid, weight);
  EXPECT_EQ(codes[0][0].item<int>(), 7);
  EXPECT_EQ(codes[1][0].item<int>(), -8);
}

TEST(WeightGrid, T11_OperandFitsInt8) {
  at::manual_seed(2);
  at::Tensor weight = at::randn({64, 256}) * at::exp(at::randn({64, 256}) * 1.5);
  for (const Clip clip : {Clip::kNone, Clip::kWeighted}) {
    const WeightGrid grid = fit_grid(weight, {4, 32}, {.clip = clip});
    const QuantizedLinear linear = make_quantized_linear(grid, round_to_grid(grid, weight), {}, {});
    EXPECT_NO_THROW(linear.validate("test"));
    const CellTable cells(grid);
    std::vector<int8_t> w8(256);
    for (int64_t n = 0; n < 64; ++n) {
      expand_row(linear, n, w8);
      for (int64_t i = 0; i < 256; ++i) {
        const float code = cells.cell(n, i / 32).code(weight[n][i].item<float>());
        EXPECT_EQ(w8[static_cast<size_t>(i)],
                  code * linear.group_scale.as<int8_t>()[static_cast<size_t>(n * 8 + i / 32)]);
      }
    }
  }
}

/// Every group scale, zero point and code whose product fits int8: four codes expand exactly in one
/// multiply-add and one exclusive or ("DGQ", two-instruction expansion).
TEST(WeightGrid, T10_TwoInstructionExpansionIsExact) {
  int64_t checked = 0;
  for (uint32_t s2 = 1; s2 <= 127; ++s2) {
    for (int zero = 0; zero <= 15; ++zero) {
      const auto offset = static_cast<uint32_t>(128 - zero * static_cast<int>(s2)) * 0x01010101u;
      std::vector<int> fitting;
      for (int u = 0; u <= 15; ++u) {
        const int w8 = static_cast<int>(s2) * (u - zero);
        if (w8 >= -128 && w8 <= 127) fitting.push_back(u);
      }
      for (int a : fitting) {
        for (int b : fitting) {
          // The neighbours' carries and borrows are what could go wrong: a and b alternate in the word.
          const auto codes = static_cast<uint32_t>(a | b << 8 | a << 16 | b << 24);
          const uint32_t expanded = (codes * s2 + offset) ^ 0x80808080u;
          const int expected[] = {a, b, a, b};
          for (int byte = 0; byte < 4; ++byte, ++checked) {
            ASSERT_EQ(static_cast<int8_t>(expanded >> (8 * byte)),
                      static_cast<int>(s2) * (expected[byte] - zero));
          }
        }
      }
    }
  }
  EXPECT_GT(checked, 100000);
}

/// Nothing is rounded between the grid and the integer layer, where QQQ loses up to half an int8 step.
TEST(WeightGrid, T15_IntegerLayerHoldsTheGridExactly) {
  at::manual_seed(5);
  const at::Tensor weight = at::randn({20, 192}) * at::exp(at::randn({20, 1}));
  for (const WeightScheme& scheme : {WeightScheme{8, 0}, WeightScheme{4, 0}, WeightScheme{4, 64}}) {
    const WeightGrid grid = fit_grid(weight, scheme, {});
    const at::Tensor codes = round_to_grid(grid, weight);
    const std::vector<float> real = dequantize(make_quantized_linear(grid, codes, {}, {}));
    const at::Tensor expected = dequantize(grid, codes).view({-1});
    EXPECT_TRUE(at::equal(at::tensor(at::ArrayRef<float>(real.data(), real.size())), expected));
  }
}

TEST(WeightGrid, T16_CodesSurvivePacking) {
  at::manual_seed(6);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 32}, {7, 96}, {33, 160}}) {
    const at::Tensor weight = at::randn({n, k});
    for (const int64_t group : {0, 32}) {
      const WeightGrid grid = fit_grid(weight, {4, group}, {});
      const at::Tensor codes = round_to_grid(grid, weight);
      const QuantizedLinear linear = make_quantized_linear(grid, codes, {}, {});
      const std::vector<int8_t> unpacked = unpack_int4(linear.qweight, n, k, linear.weight_format);
      const int8_t* expected = codes.data_ptr<int8_t>();
      for (size_t i = 0; i < unpacked.size(); ++i) {
        EXPECT_EQ(unpacked[i] - (group > 0 ? 8 : 0), expected[i]);
      }
    }
  }
}

TEST(WeightGrid, EightBitsHaveNoGroups) {
  EXPECT_THROW(fit_grid(at::ones({2, 64}), {8, 32}, {}), Error);
}

TEST(WeightGrid, SearchNeverLosesToRounding) {
  at::manual_seed(3);
  at::Tensor weight = at::randn({48, 512});
  weight.narrow(1, 0, 128).mul_(6);
  const at::Tensor importance = at::exp(at::randn({512}));
  for (const int64_t group : {0, 32, 128}) {
    const double rounded =
        weighted_error(fit_grid(weight, {4, group}, {.search = false}), weight, importance);
    const GridOptions best{.clip = Clip::kWeighted};
    const double searched =
        weighted_error(fit_grid(weight, {4, group}, best, {importance, {}, {}}), weight, importance);
    EXPECT_LT(searched, rounded) << "group " << group;
  }
}

TEST(WeightGrid, MseClipLowersItsOwnMeasure) {
  at::manual_seed(7);
  const at::Tensor weight = at::randn({16, 256});
  const auto measure = [&](const WeightGrid& grid) {
    return (fake_quantize_weight(grid, weight) - weight).abs().pow(2.4).sum().item<double>();
  };
  for (const int64_t group : {0, 64}) {
    EXPECT_LT(measure(fit_grid(weight, {4, group}, {.clip = Clip::kMse})),
              measure(fit_grid(weight, {4, group}, {})));
  }
}

/// QQQ rounds to float group scales, then once more to int8 ("QQQ", second-level scales). The searched
/// integer grid must be at least as good on ordinary weights.
TEST(WeightGrid, SearchedIntegersMatchQqqsFloatScales) {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({64, 1024});
  const at::Tensor step = weight.view({64, 8, 128}).abs().amax({2}, true) / 7.5;
  const at::Tensor codes = (weight.view({64, 8, 128}) / step).round().clamp(-8, 7);
  const at::Tensor row = (codes * step).abs().amax({1, 2}, true) / 127;
  const at::Tensor ratio = (step / row).to(at::kHalf).to(at::kFloat);
  const at::Tensor qqq = ((codes * ratio).round() * row).view({64, 1024});
  const double reference = (qqq - weight).square().sum().item<double>();
  const double ours = weighted_error(fit_grid(weight, {4, 128}, {}), weight, at::ones({1024}));
  EXPECT_LT(ours, reference * 1.001);
}

TEST(WeightGrid, IsReadBackFromTheLinear) {
  at::manual_seed(6);
  const at::Tensor weight = at::randn({6, 64});
  for (const WeightScheme& scheme : {WeightScheme{8, 0}, WeightScheme{4, 0}, WeightScheme{4, 0, false},
                                     WeightScheme{4, 32}, WeightScheme{4, 32, false}}) {
    const WeightGrid grid = fit_grid(weight, scheme, {.scale_bits = 0});
    const at::Tensor codes = round_to_grid(grid, weight);
    const QuantizedLinear linear = make_quantized_linear(grid, codes, {8, false, true}, {});
    EXPECT_TRUE(at::equal(codes_of(linear), codes));
    EXPECT_TRUE(at::equal(dequantize(grid_of(linear), codes), dequantize(grid, codes)));
    QuantizedLinear other = make_quantized_linear(grid, at::zeros_like(codes), {8, false, true}, {});
    replace_codes(other, codes);
    EXPECT_NO_THROW(other.validate("test"));
    EXPECT_TRUE(at::equal(codes_of(other), codes));
    EXPECT_TRUE(std::ranges::equal(other.row_sum.as<int32_t>(), linear.row_sum.as<int32_t>()));
  }
}

}  // namespace
}  // namespace tessera
