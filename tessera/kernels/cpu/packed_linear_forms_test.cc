// Quantized layers beyond codes and scales, on every instruction set: activation formats, zero points,
// outliers, weight-only layers, maps of inputs, sums that must not depend on threads.
#include <fmt/format.h>

#include "tessera/kernels/cpu/packed_linear_check.h"

namespace tessera {
namespace {

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
