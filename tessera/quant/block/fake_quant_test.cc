// Fake quantization against the reference arithmetic of format/: same codes, same accumulators.
#include "tessera/quant/block/fake_quant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tessera/format/reference.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

std::span<const float> row_of(const at::Tensor& x, int64_t row) {
  return {x.data_ptr<float>() + row * x.size(1), static_cast<size_t>(x.size(1))};
}

/// Rows that quantizers get wrong: zeros, subnormals, ties, huge values, NaN, infinity, one spike.
at::Tensor difficult_rows(int64_t k) {
  at::manual_seed(1);
  at::Tensor x = at::randn({40, k});
  x[0].zero_();
  x[1].mul_(1e-42);
  x[2].copy_(at::arange(k).remainder(255).sub(127).mul(0.5));
  x[3].mul_(1e37);
  x[4][3] = std::numeric_limits<float>::quiet_NaN();
  x[5][0] = -std::numeric_limits<float>::infinity();
  x[6].zero_();
  x[6][k - 1] = -3;
  x[7].abs_();
  x[8].abs_().neg_();
  x[9].mul_(0x1p-99f);
  x.narrow(0, 20, 20).mul_(at::exp(at::randn({20, 1}) * 8));
  return x;
}

class ActivationCodes : public testing::TestWithParam<ActivationFormat> {};

TEST_P(ActivationCodes, T14_EqualTheReference) {
  const ActivationFormat format = GetParam();
  const int64_t k = 96;
  const float static_scale = 0.013f;
  QuantizedLinear linear;
  linear.activation = format;
  linear.input_scale = Tensor::from(std::span<const float>(&static_scale, 1), {1});
  const at::Tensor x = difficult_rows(k);
  const QuantizedRows rows = quantize_rows(x, format, static_scale);
  for (int64_t r = 0; r < x.size(0); ++r) {
    std::vector<int8_t> codes(static_cast<size_t>(k));
    const TokenScale token = quantize_token(linear, row_of(x, r), codes);
    const float scale = rows.scale[r].item<float>();
    EXPECT_TRUE(scale == token.scale || (std::isnan(scale) && std::isnan(token.scale))) << "row " << r;
    const int zero = rows.zero_point.defined() ? rows.zero_point[r].item<int>() : 0;
    EXPECT_EQ(zero, token.zero_point) << "row " << r;
    EXPECT_EQ(rows.offset.defined() ? rows.offset[r].item<float>() : 0, token.offset) << "row " << r;
    for (int64_t i = 0; i < k; ++i) {
      EXPECT_EQ(rows.codes[r][i].item<float>(), codes[static_cast<size_t>(i)]) << r << ", " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllFormats, ActivationCodes,
                         testing::Values(ActivationFormat{8, true, true}, ActivationFormat{4, true, true},
                                         ActivationFormat{6, true, true}, ActivationFormat{8, false, true},
                                         ActivationFormat{6, false, true}, ActivationFormat{4, false, true},
                                         ActivationFormat{8, true, false}, ActivationFormat{4, true, false},
                                         ActivationFormat{4, false, true, true},
                                         ActivationFormat{8, false, true, true}));

TEST(ActivationCodes, T14_QuantizedRowsStayAndErrorsAreHalfAStep) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({64, 200});
  const QuantizedRows rows = quantize_rows(x, {});
  const at::Tensor once = fake_quantize_rows(x, {});
  EXPECT_TRUE(at::equal(quantize_rows(once, {}).codes, rows.codes));
  EXPECT_LE(((x - once).abs() / rows.scale).max().item<float>(), 0.5f * 1.0001f);
  EXPECT_LE(rows.codes.abs().max().item<float>(), 127.0f);
}

/// Accumulators exactly; outputs exactly, or to `tolerance` where floats are summed in another order.
void expect_equals_reference(const QuantizedLinear& linear, const at::Tensor& x, float tolerance = 0) {
  const int64_t m = x.size(0), n = linear.n;
  std::vector<float> y(static_cast<size_t>(m * n));
  std::vector<int32_t> accumulators;
  reference_forward(linear, {x.data_ptr<float>(), static_cast<size_t>(x.numel())}, m, y, &accumulators);
  const FakeQuantLinear fake(linear, at::kCPU);
  const at::Tensor out = fake.forward(x).view({-1});
  for (int64_t i = 0; i < m * n; ++i) {
    EXPECT_NEAR(out[i].item<float>(), y[static_cast<size_t>(i)], tolerance) << i;
  }
  if (linear.activation.weight_only()) return;
  const at::Tensor acc = fake.accumulators(x).view({-1});
  for (int64_t i = 0; i < m * n; ++i) {
    EXPECT_EQ(acc[i].item<int64_t>(), accumulators[static_cast<size_t>(i)]) << i;
  }
}

struct LinearCase {
  WeightScheme weight;
  ActivationFormat activation;
};

class IntegerLinear : public testing::TestWithParam<LinearCase> {};

TEST_P(IntegerLinear, T13_EqualsTheReference) {
  const auto& [scheme, activation] = GetParam();
  at::manual_seed(3);
  const int64_t n = 24, k = 256, m = 9;
  const at::Tensor weight = at::randn({n, k}), bias = at::randn({n});
  at::Tensor x = at::randn({m, k}) * 3;
  x[1].fill_(1);
  x[2].sign_();
  x[3].zero_();
  const WeightGrid grid = fit_grid(weight, scheme, {});
  const QuantizedLinear linear =
      make_quantized_linear(grid, round_to_grid(grid, weight), activation, bias, 0.05f);
  linear.validate("test");
  expect_equals_reference(linear, x);
  const FakeQuantLinear fake(linear, at::kCPU);
  const std::vector<float> real = dequantize(linear);
  EXPECT_TRUE(at::equal(fake.weight().view({-1}), at::tensor(at::ArrayRef<float>(real.data(), real.size()))));
}

/// A random layer of 10 outputs and 64 columns.
QuantizedLinear small_layer(const ActivationFormat& activation) {
  const at::Tensor weight = at::randn({10, 64});
  const WeightGrid grid = fit_grid(weight, {4, 0}, {});
  return make_quantized_linear(grid, round_to_grid(grid, weight), activation, at::randn({10}), 0.05f);
}

const ActivationFormat kSomeFormats[] = {{4, true, true},        {6, false, true}, {4, false, true},
                                         {4, false, true, true}, {8, true, false}, {16, true, true}};

TEST(IntegerLinear, OutliersEqualTheReference) {
  at::manual_seed(4);
  for (const ActivationFormat& activation : kSomeFormats) {
    QuantizedLinear linear = small_layer(activation);
    linear.outlier_index = Tensor::from<int32_t>(std::vector<int32_t>{0, 7, 66}, {3});
    linear.outlier_weight = Tensor(DType::kF16, {10, 3});
    for (Half& w : linear.outlier_weight.as<Half>()) w = to_half(at::randn({1}).item<float>());
    linear.validate("test");
    expect_equals_reference(linear, at::randn({5, 67}) * 3, 5e-5f);
  }
}

TEST(IntegerLinear, MapsEqualTheReference) {
  at::manual_seed(5);
  for (const ActivationFormat& activation : kSomeFormats) {
    QuantizedLinear linear = small_layer(activation);
    std::vector<int32_t> index, offset{0};
    for (int32_t c = 0; c < 64; ++c) {  // splits, copies and merges of up to four inputs
      const int32_t sources = c % 5 == 0 ? 1 + c % 4 : 1;
      for (int32_t i = 0; i < sources; ++i) index.push_back((7 * c + 13 * i) % 60);
      offset.push_back(static_cast<int32_t>(index.size()));
    }
    const auto nnz = static_cast<int64_t>(index.size());
    const at::Tensor gain = at::randn({nnz});
    linear.input_index = Tensor::from<int32_t>(index, {nnz});
    linear.input_offset = Tensor::from<int32_t>(offset, {65});
    linear.input_gain =
        Tensor::from(std::span<const float>(gain.data_ptr<float>(), static_cast<size_t>(nnz)), {nnz});
    linear.validate("test");
    const bool exact = !activation.weight_only();
    const at::Tensor x = at::randn({5, linear.k_in()}) * 3;
    expect_equals_reference(linear, x, exact ? 0 : 5e-5f);
    if (activation.bits != 4 || activation.real_zero) continue;
    linear.input_repeat = Tensor(DType::kU8, {64});
    for (size_t i = 0; i < 64; ++i) linear.input_repeat.as<uint8_t>()[i] = static_cast<uint8_t>(1 + i % 8);
    linear.validate("test");
    expect_equals_reference(linear, x);
  }
}

INSTANTIATE_TEST_SUITE_P(AllFormats, IntegerLinear,
                         testing::Values(LinearCase{{8, 0}, {}}, LinearCase{{4, 0}, {}},
                                         LinearCase{{4, 128}, {}}, LinearCase{{4, 32}, {8, false, true}},
                                         LinearCase{{4, 0}, {4, false, true}},
                                         LinearCase{{4, 64}, {8, true, false}},
                                         LinearCase{{8, 0}, {6, false, true}},
                                         LinearCase{{4, 0}, {4, false, true, true}}));

}  // namespace
}  // namespace tessera
