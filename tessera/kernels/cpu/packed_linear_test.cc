// Quantized layers against format/reference.h on every instruction set: accumulators bit for bit, and outputs
// where no sum of floats depends on its order.
#include "tessera/kernels/cpu/packed_linear.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/parallel.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/single_linear.h"

namespace tessera {
namespace {

struct Output {
  std::vector<int32_t> acc;
  std::vector<float> y;
};

Output run(CpuIsa isa, const QuantizedLinear& layer, const std::vector<float>& x, int64_t m,
           bool accumulate = false, int threads = 1) {
  set_thread_count(threads);
  const auto backend = make_cpu_backend(isa);
  SingleLinear single(*backend, layer);
  EXPECT_EQ(single.linear().info().isa, name_of(isa));
  Output out{std::vector<int32_t>(static_cast<size_t>(m * layer.n)),
             std::vector<float>(static_cast<size_t>(m * layer.n), accumulate ? 0.25f : 7.0f)};
  if (!layer.activation.weight_only()) {
    const auto input = single.make_input(m);
    backend->prepare(host_rows(x.data(), m, layer.k_in()), single.format(), *input);
    static_cast<const PackedLinear&>(single.linear())
        .accumulators(static_cast<CpuInput&>(*input), m, out.acc);
  }
  single.run(x.data(), m, out.y.data(), accumulate);
  return out;
}

KernelInfo info_of(const QuantizedLinear& layer, CpuIsa isa) {
  const auto backend = make_cpu_backend(isa);
  return SingleLinear(*backend, layer).linear().info();
}

/// Equality in every bit; NaN equals NaN.
void expect_same(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    ASSERT_EQ(a[i], b[i]) << "at " << i;
  }
}

void expect_exact(const QuantizedLinear& layer, const std::vector<float>& x, int64_t m) {
  std::vector<int32_t> acc;
  std::vector<float> y(static_cast<size_t>(m * layer.n));
  reference_forward(layer, x, m, y, &acc);
  for (CpuIsa isa : available_cpu_isas()) {
    SCOPED_TRACE(name_of(isa));
    const Output out = run(isa, layer, x, m);
    ASSERT_EQ(out.acc, acc);
    expect_same(out.y, y);
  }
}

/// Sum over k of |x'[k] * real weight| plus that over the outliers: what rounding errors are relative to.
std::vector<float> magnitudes(const QuantizedLinear& layer, const std::vector<float>& x, int64_t m) {
  QuantizedLinear positive = layer.clone();
  positive.activation = {.bits = 16};
  positive.input_repeat = {};
  if (layer.weight_format == WeightFormat::kUint4Float) {  // all codes above the zero points
    for (uint8_t& pair : positive.qweight.as<uint8_t>()) pair = 0xff;
    for (uint8_t& zero : positive.group_zero.as<uint8_t>()) zero = 0;
  } else {
    positive.weight_format = WeightFormat::kInt8;
    std::vector<int8_t> codes(static_cast<size_t>(layer.n * layer.k));
    for (int64_t n = 0; n < layer.n; ++n) {
      const auto row =
          std::span(codes).subspan(static_cast<size_t>(n * layer.k), static_cast<size_t>(layer.k));
      expand_row(layer, n, row);
      for (int8_t& c : row) c = static_cast<int8_t>(std::min(std::abs(c), 127));
    }
    positive.qweight = Tensor::from<int8_t>(codes, {layer.n, layer.k});
  }
  for (Half& w : positive.outlier_weight.as<Half>()) w = to_half(std::fabs(to_float(w)));
  for (float& g : positive.input_gain.as<float>()) g = std::fabs(g);
  for (float& b : positive.bias.as<float>()) b = std::fabs(b);
  std::vector<float> sizes(x), y(static_cast<size_t>(m * layer.n));
  for (float& v : sizes) v = std::fabs(v);
  reference_forward(positive, sizes, m, y);
  return y;
}

/// Accumulators of integer layers exactly, outputs within the bound for sums of K + F products in any order.
void expect_close(const QuantizedLinear& layer, const std::vector<float>& x, int64_t m) {
  std::vector<int32_t> acc;
  std::vector<float> y(static_cast<size_t>(m * layer.n));
  reference_forward(layer, x, m, y, &acc);
  const std::vector<float> size = magnitudes(layer, x, m);
  const double gamma = static_cast<double>(layer.k_in() + 4) * 0x1p-24;
  for (CpuIsa isa : available_cpu_isas()) {
    SCOPED_TRACE(name_of(isa));
    const Output out = run(isa, layer, x, m);
    if (!layer.activation.weight_only()) {
      ASSERT_EQ(out.acc, acc);
    }
    for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(out.y[i], y[i], gamma * size[i]) << "at " << i;
  }
}

constexpr int64_t kTokens[] = {1, 2, 3, 5, 8, 15, 16, 17, 33, 128};
constexpr int64_t kOutputs[] = {1, 7, 16, 31, 33, 64, 100};
constexpr int64_t kInputs[] = {2, 6, 30, 32, 62, 64, 66, 128, 130, 512, 1408};

/// Every K with some N and M, so that each value of each meets several of the others.
template <class Body>
void for_shapes(const Body& body) {
  for (size_t i = 0; i < std::size(kInputs); ++i) {
    for (size_t j = 0; j < std::size(kTokens); ++j) {
      body(kTokens[j], kOutputs[(i + 3 * j) % std::size(kOutputs)], kInputs[i]);
    }
  }
}

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

TEST(PackedLinear, EveryActivationFormatMatches) {
  const ActivationFormat formats[] = {{8, true, true},  {6, true, true},  {4, true, true},  {8, false, true},
                                      {6, false, true}, {5, false, true}, {4, false, true}, {8, true, false},
                                      {6, true, false}, {4, true, false}};
  for (const ActivationFormat& activation : formats) {
    for (WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
      const auto layer = random_layer({.format = format,
                                       .n = 45,
                                       .k = 192,
                                       .group_size = 64,
                                       .activation = activation,
                                       .group_zeros = true,
                                       .bias = true},
                                      15);
      for (int64_t m : {1, 7, 20}) expect_exact(layer, random_floats(m * 192, 16), m);
    }
  }
}

TEST(PackedLinear, RowsWithOneZeroPointStayNibbles) {
  LayerOptions options{.format = WeightFormat::kUint4Grouped, .n = 45, .k = 192, .group_size = 192};
  options.activation = {.bits = 4, .symmetric = false};
  options.group_zeros = true;
  const auto layer = random_layer(options, 36);
  for (int64_t m : {1, 30}) expect_exact(layer, random_floats(m * 192, 37), m);
  const KernelInfo info = info_of(layer, CpuIsa::kGeneric);
  EXPECT_EQ(info.kernel, "w4a4 asymmetric per-channel");
  EXPECT_EQ(info.weight_bits, 4);
}

TEST(PackedLinear, RealZeroPointsAreExact) {
  for (WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
    const auto layer = random_layer({.format = format,
                                     .n = 45,
                                     .k = 192,
                                     .group_size = format == WeightFormat::kUint4Grouped ? 32 : 0,
                                     .activation = {4, false, true, /*real_zero=*/true},
                                     .bias = true},
                                    38);
    auto x = random_floats(30 * 192, 39);
    for (size_t i = 0; i < 192; ++i) x[i] += 20;  // a token without zeros in its range
    for (int64_t m : {1, 30}) expect_exact(layer, x, m);
  }
}

TEST(PackedLinear, OutliersAreAddedToExactAccumulators) {
  for (const ActivationFormat& activation :
       {ActivationFormat{4}, ActivationFormat{4, false}, ActivationFormat{4, false, true, true}}) {
    for (int64_t outliers : {1, 9, 256}) {
      const auto layer =
          random_layer({.n = 50, .k = 130, .activation = activation, .bias = true, .outliers = outliers}, 17);
      ASSERT_EQ(layer.k_in(), 130 + outliers);
      for (int64_t m : {1, 2, 5, 30}) {
        expect_close(layer, random_floats(m * layer.k_in(), 18, 3.0f), m);
      }
    }
  }
}

TEST(PackedLinear, LayersOfOutliersOnlyHaveNoIntegerPart) {
  for (const ActivationFormat& activation :
       {ActivationFormat{8, true, true}, ActivationFormat{4, false, true},
        ActivationFormat{4, false, true, true}, ActivationFormat{16, true, true}}) {
    const auto layer = random_layer({.n = 20, .k = 0, .activation = activation, .outliers = 16}, 45);
    for (int64_t m : {1, 5}) expect_close(layer, random_floats(m * 16, 46), m);
  }
}

TEST(PackedLinear, WeightOnlyLayersAreCloseToTheReference) {
  for (WeightFormat format :
       {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped, WeightFormat::kUint4Float}) {
    for (int64_t group : {32, 96, 320}) {
      for (int64_t m : {1, 2, 3, 5, 12, 13, 40}) {
        const int64_t odd = format == WeightFormat::kInt8 ? 1 : format == WeightFormat::kInt4 ? 2 : 0;
        const auto layer = random_layer({.format = format,
                                         .n = kOutputs[static_cast<size_t>(m) % std::size(kOutputs)],
                                         .k = 2 * group + odd,
                                         .group_size = group,
                                         .activation = {.bits = 16},
                                         .group_zeros = true,
                                         .bias = m % 2 == 1,
                                         .outliers = m % 3},
                                        38);
        SCOPED_TRACE(testing::Message() << m << " x " << layer.n << ", " << describe(layer));
        expect_close(layer, random_floats(m * layer.k_in(), 39), m);
      }
    }
  }
}

/// Splits, copies and merges of inputs, all with gains.
void add_map(QuantizedLinear& layer) {
  std::vector<int32_t> index, offset{0};
  for (int32_t c = 0; c < layer.k; ++c) {
    const int32_t sources = c % 5 == 0 ? 1 + c % 4 : 1;
    for (int32_t i = 0; i < sources; ++i) index.push_back((7 * c + 13 * i) % 60);
    offset.push_back(static_cast<int32_t>(index.size()));
  }
  const auto nnz = static_cast<int64_t>(index.size());
  layer.input_index = Tensor::from<int32_t>(index, {nnz});
  layer.input_offset = Tensor::from<int32_t>(offset, {layer.k + 1});
  layer.input_gain = Tensor::from<float>(random_floats(nnz, 23), {nnz});
  layer.validate("mapped");
}

TEST(PackedLinear, InputMapsMatch) {
  auto layer = random_layer({.n = 20, .k = 6}, 19);
  layer.input_index = Tensor::from<int32_t>(std::vector<int32_t>{5, 4, 3, 2, 1, 0}, {6});
  expect_exact(layer, random_floats(3 * 6, 20), 3);  // permutation
  layer.input_gain = Tensor::from<float>(random_floats(6, 21), {6});
  expect_exact(layer, random_floats(3 * 6, 22), 3);  // with gains
  for (const ActivationFormat& activation :
       {ActivationFormat{8, true, true}, ActivationFormat{4, false, true},
        ActivationFormat{8, true, false}}) {
    auto mapped = random_layer({.n = 40, .k = 66, .activation = activation}, 24);
    add_map(mapped);
    for (int64_t m : {1, 14}) expect_exact(mapped, random_floats(m * mapped.k_in(), 25), m);
    mapped.activation = {.bits = 16};
    expect_close(mapped, random_floats(3 * mapped.k_in(), 26), 3);
  }
}

TEST(PackedLinear, FusedProducersEqualTheirSteps) {
  auto layer = random_layer({.n = 40, .k = 66, .activation = {4, false, true}, .outliers = 3}, 47);
  add_map(layer);
  const int64_t m = 7, width = layer.k_in();
  const auto x = random_floats(m * width, 48), up = random_floats(m * width, 49),
             gain = random_floats(width, 50);
  for (CpuIsa isa : available_cpu_isas()) {
    const CpuKernels& kernels = kernels_for(isa);
    const auto backend = make_cpu_backend(isa);
    const SingleLinear single(*backend, layer);
    const auto input = single.make_input(m);
    const auto linear = [&] {
      std::vector<float> y(static_cast<size_t>(m * layer.n));
      backend->linear(single.linear(), *input, host_rows(y.data(), m, layer.n));
      return y;
    };
    NormWeights norm{
        .layer_norm = false, .eps = 1e-5f, .gain = backend->allocate(gain.size() * 4), .bias = {}};
    backend->upload(std::as_bytes(std::span(gain)), *norm.gain);
    std::vector<float> normed(x.size()), gated(x.size());
    for (int64_t t = 0; t < m; ++t) {
      kernels.norm(&x[static_cast<size_t>(t * width)], width, {false, 1e-5f, gain.data(), nullptr},
                   &normed[static_cast<size_t>(t * width)]);
    }
    kernels.glu(x.data(), up.data(), m * width, GluActivation::kSilu, gated.data());
    const Rows rows = host_rows(x.data(), m, width);
    backend->add_norm(rows, nullptr, norm, single.format(), *input);
    expect_same(linear(), run(isa, layer, normed, m).y);
    backend->glu(&rows, host_rows(up.data(), m, width), GluActivation::kSilu, single.format(), *input);
    expect_same(linear(), run(isa, layer, gated, m).y);
    // The residual addition in front of the norm: x = h + up.
    std::vector<float> h(x.size());
    for (size_t i = 0; i < h.size(); ++i) h[i] = x[i] - up[i];
    auto sum = h;
    for (size_t i = 0; i < h.size(); ++i) sum[i] += up[i];
    const Rows delta = host_rows(up.data(), m, width);
    backend->add_norm(host_rows(h.data(), m, width), &delta, norm, single.format(), *input);
    EXPECT_EQ(h, sum);
    const auto added = linear();
    backend->add_norm(host_rows(sum.data(), m, width), nullptr, norm, single.format(), *input);
    expect_same(added, linear());
  }
}

TEST(PackedLinear, RepeatedColumnsMatch) {
  for (const ActivationFormat& activation :
       {ActivationFormat{4, true, true}, ActivationFormat{4, false, true}, ActivationFormat{6, false, true},
        ActivationFormat{4, true, false}}) {
    for (WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kUint4Grouped}) {
      auto layer = random_layer({.format = format,
                                 .n = 40,
                                 .k = 96,
                                 .group_size = 32,
                                 .activation = activation,
                                 .group_zeros = true,
                                 .repeat = true},
                                40);
      expect_exact(layer, random_floats(3 * 96, 41), 3);
      add_map(layer);
      expect_exact(layer, random_floats(3 * layer.k_in(), 42), 3);
    }
  }
}

TEST(PackedLinear, AccumulateAddsToTheResidualStream) {
  const auto layer = random_layer({.n = 70, .k = 64, .bias = true}, 25);
  const auto x = random_floats(5 * 64, 26);
  for (CpuIsa isa : available_cpu_isas()) {
    const Output plain = run(isa, layer, x, 5), added = run(isa, layer, x, 5, true);
    for (size_t i = 0; i < plain.y.size(); ++i) ASSERT_EQ(added.y[i], 0.25f + plain.y[i]);
  }
}

TEST(PackedLinear, RowsThatAreNotFiniteGiveNanAndLeaveOthersAlone) {
  const auto layer = random_layer({.n = 33, .k = 64}, 27);
  auto x = random_floats(3 * 64, 28);
  x[64 + 5] = INFINITY;
  expect_exact(layer, x, 3);
  EXPECT_TRUE(std::isnan(run(detect_cpu_isa(), layer, x, 3).y[33]));
}

TEST(PackedLinear, ResultsDoNotDependOnThreadsOrOnTheBatch) {
  const auto layer = random_layer(
      {.format = WeightFormat::kUint4Grouped, .n = 300, .k = 256, .group_size = 64, .bias = true}, 29);
  const int64_t m = 300;  // more than one block of tokens
  const auto x = random_floats(m * 256, 30);
  for (CpuIsa isa : available_cpu_isas()) {
    const Output one = run(isa, layer, x, m), three = run(isa, layer, x, m, false, 3);
    EXPECT_EQ(one.acc, three.acc);
    EXPECT_EQ(one.y, three.y);
    const Output single = run(isa, layer, {x.end() - 256, x.end()}, 1);
    EXPECT_TRUE(std::equal(single.y.begin(), single.y.end(), one.y.end() - 300));
  }
}

TEST(PackedLinear, FloatSumsDoNotDependOnThreadsOrOnTheBatch) {
  const LayerOptions layers[] = {
      {.activation = {.bits = 4}},
      {.activation = {.bits = 16}},
      {.format = WeightFormat::kUint4Float, .group_size = 32, .activation = {.bits = 16}}};
  for (LayerOptions options : layers) {
    options.n = 300;
    options.k = 512;
    options.outliers = 3;
    const auto layer = random_layer(options, 43);
    const auto x = random_floats(50 * layer.k_in(), 44);
    for (CpuIsa isa : available_cpu_isas()) {
      const auto all = run(isa, layer, x, 50).y;
      EXPECT_EQ(all, run(isa, layer, x, 50, false, 3).y);
      for (int64_t m : {1, 2, 3, 7}) {
        const auto some = run(isa, layer, x, m).y;
        EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << name_of(isa) << ' ' << m;
      }
    }
  }
}

TEST(PackedLinear, InfoSaysWhatRuns) {
  const auto layer = random_layer(
      {.format = WeightFormat::kUint4Grouped, .k = 256, .group_size = 128, .activation = {4, true, true}},
      31);
  for (CpuIsa isa : available_cpu_isas()) {
    const auto backend = make_cpu_backend(isa);
    const KernelInfo info = info_of(layer, isa);
    EXPECT_EQ(info.kernel, "w4a4 g128");
    EXPECT_EQ(info.isa, name_of(isa));
    EXPECT_EQ(info.weight_bits, 4);
    EXPECT_EQ(info.activation_bits, 4);
    EXPECT_NE(backend->name().find(name_of(isa)), std::string::npos);
  }
}

}  // namespace
}  // namespace tessera
