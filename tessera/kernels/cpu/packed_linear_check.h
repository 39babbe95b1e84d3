// Comparison of quantized layers with format/reference.h on every instruction set. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/parallel.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/cpu/packed_linear.h"
#include "tessera/kernels/single_linear.h"

namespace tessera {

struct Output {
  std::vector<int32_t> acc;
  std::vector<float> y;
};

inline Output run(CpuIsa isa, const QuantizedLinear& layer, const std::vector<float>& x, int64_t m,
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

inline KernelInfo info_of(const QuantizedLinear& layer, CpuIsa isa) {
  const auto backend = make_cpu_backend(isa);
  return SingleLinear(*backend, layer).linear().info();
}

/// Equality in every bit; NaN equals NaN.
inline void expect_same(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    ASSERT_EQ(a[i], b[i]) << "at " << i;
  }
}

inline void expect_exact(const QuantizedLinear& layer, const std::vector<float>& x, int64_t m) {
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
inline std::vector<float> magnitudes(const QuantizedLinear& layer, const std::vector<float>& x, int64_t m) {
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
inline void expect_close(const QuantizedLinear& layer, const std::vector<float>& x, int64_t m) {
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

}  // namespace tessera
