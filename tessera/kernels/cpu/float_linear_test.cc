// Float layers of every instruction set against sums in double.
#include "tessera/kernels/cpu/float_linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/random_layer.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/single_linear.h"

namespace tessera {
namespace {

Tensor stored(const std::vector<float>& values, int64_t n, int64_t k, DType dtype) {
  if (dtype == DType::kF32) return Tensor::from<float>(values, {n, k});
  Tensor out(dtype, {n, k});
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF16) {
      out.as<Half>()[i] = to_half(values[i]);
    } else {
      out.as<BFloat16>()[i] = to_bfloat16(values[i]);
    }
  }
  return out;
}

std::vector<float> run(CpuIsa isa, const Tensor& weight, const std::vector<float>& bias,
                       const std::vector<float>& x, int64_t m, bool accumulate = false, int threads = 1,
                       SumOrder order = SumOrder::kByBatch) {
  set_thread_count(threads);
  const auto backend = make_cpu_backend(isa);
  SingleLinear layer(*backend, FloatWeight{weight.view(), bias}, order);
  EXPECT_EQ(layer.linear().info().isa, name_of(isa));
  std::vector<float> y(static_cast<size_t>(m * layer.linear().n()), accumulate ? 1.0f : -5.0f);
  layer.run(x.data(), m, y.data(), accumulate);
  return y;
}

/// |y - sum| <= gamma_K * sum |x w|, the bound for K rounded products and sums in any order.
void expect_close(const Tensor& weight, const std::vector<float>& bias, int64_t m) {
  const int64_t n = weight.shape()[0], k = weight.shape()[1];
  const auto w = to_floats(weight.view()), x = random_floats(m * k, 77);
  const double gamma = static_cast<double>(k + 2) * 0x1p-24;
  for (CpuIsa isa : available_cpu_isas()) {
    SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << ' ' << name_of(isa));
    const auto y = run(isa, weight, bias, x, m);
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = bias.empty() ? 0.0 : bias[static_cast<size_t>(j)], size = std::fabs(sum);
        for (int64_t i = 0; i < k; ++i) {
          const double product =
              double{x[static_cast<size_t>(t * k + i)]} * w[static_cast<size_t>(j * k + i)];
          sum += product;
          size += std::fabs(product);
        }
        ASSERT_NEAR(y[static_cast<size_t>(t * n + j)], sum, gamma * size) << t << ' ' << j;
      }
    }
  }
}

TEST(FloatLinear, IsCloseToTheExactProductForEveryRemainder) {
  constexpr int64_t kOutputs[] = {1, 15, 16, 31, 32, 33, 70};
  constexpr int64_t kInputs[] = {1, 15, 16, 17, 64, 255, 256, 257, 600};
  int64_t i = 0;
  for (int64_t m : {1, 2, 3, 4, 5, 11, 12, 13, 25, 250}) {
    for (int64_t k : kInputs) {
      const int64_t n = kOutputs[static_cast<size_t>(++i) % std::size(kOutputs)];
      const DType dtype = i % 3 == 0 ? DType::kF32 : i % 3 == 1 ? DType::kF16 : DType::kBF16;
      expect_close(stored(random_floats(n * k, 1), n, k, dtype),
                   i % 2 ? random_floats(n, 2) : std::vector<float>{}, m);
    }
  }
}

TEST(FloatLinear, ResultsDoNotDependOnThreads) {
  const Tensor weight = stored(random_floats(100 * 300, 3), 100, 300, DType::kF32);
  for (CpuIsa isa : available_cpu_isas()) {
    for (int64_t m : {1, 3, 300}) {
      const auto x = random_floats(m * 300, 4);
      EXPECT_EQ(run(isa, weight, {}, x, m), run(isa, weight, {}, x, m, false, 3));
    }
  }
}

TEST(FloatLinear, AccumulateAddsToTheResidualStream) {
  const Tensor weight = stored(random_floats(40 * 50, 5), 40, 50, DType::kBF16);
  const auto bias = random_floats(40, 6);
  for (CpuIsa isa : available_cpu_isas()) {
    for (int64_t m : {1, 14}) {
      const auto x = random_floats(m * 50, 7);
      const auto plain = run(isa, weight, bias, x, m), added = run(isa, weight, bias, x, m, true);
      for (size_t i = 0; i < plain.size(); ++i) ASSERT_EQ(added[i], 1.0f + plain[i]);
    }
  }
}

TEST(FloatLinear, InFixedOrderRowsDoNotDependOnTheirNeighbours) {
  const int64_t n = 45, k = 700, most = 250;
  const Tensor weight = stored(random_floats(n * k, 5), n, k, DType::kBF16);
  const auto x = random_floats(most * k, 7);
  for (CpuIsa isa : available_cpu_isas()) {
    const auto all = run(isa, weight, {}, x, most, false, 1, SumOrder::kFixed);
    for (int64_t m : {1, 2, 3, 5, 64}) {
      const auto some = run(isa, weight, {}, x, m, false, 1, SumOrder::kFixed);
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << name_of(isa) << ' ' << m;
    }
  }
}

TEST(FloatLinear, PartsLieSideBySide) {
  const int64_t k = 50, m = 7;
  const Tensor a = stored(random_floats(40 * k, 1), 40, k, DType::kBF16);
  const Tensor b = stored(random_floats(9 * k, 2), 9, k, DType::kF32);
  const auto bias = random_floats(9, 3), x = random_floats(m * k, 4);
  for (CpuIsa isa : available_cpu_isas()) {
    const auto backend = make_cpu_backend(isa);
    const FloatWeight parts[] = {{a.view(), {}}, {b.view(), bias}};
    const auto joined = backend->load(parts, SumOrder::kByBatch);
    ASSERT_EQ(joined->n(), 49);
    const auto format = backend->float_input(k);
    const auto input = backend->make_input(m, k);
    backend->prepare(host_rows(x.data(), m, k), *format, *input);
    std::vector<float> y(static_cast<size_t>(m * 60), -5.0f);  // rows 60 apart: a part of a wider matrix
    backend->linear(*joined, *input, {y.data(), DType::kF32, m, 49, 60});
    const auto left = run(isa, a, {}, x, m), right = run(isa, b, bias, x, m);
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t i = 0; i < 60; ++i) {
        const float expected = i < 40   ? left[static_cast<size_t>(t * 40 + i)]
                               : i < 49 ? right[static_cast<size_t>(t * 9 + i - 40)]
                                        : -5.0f;
        ASSERT_EQ(y[static_cast<size_t>(t * 60 + i)], expected) << t << ' ' << i;
      }
    }
  }
}

TEST(FloatLinear, EmbedCopiesRowsExactly) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Tensor table = stored(random_floats(9 * 37, 8), 9, 37, dtype);
    const auto values = to_floats(table.view());
    for (CpuIsa isa : available_cpu_isas()) {
      const auto backend = make_cpu_backend(isa);
      const SingleLinear tokens(*backend, FloatWeight{table.view()});
      std::vector<float> out(3 * 37);
      const std::vector<int32_t> ids = {8, 0, 5};
      Batch batch;
      batch.add(ids, 0, std::vector<int32_t>{0}, WantedLogits::all());
      const auto device_batch = backend->make_batch();
      backend->upload(batch, *device_batch);
      backend->embed({.tokens = &tokens.linear()}, *device_batch, host_rows(out.data(), 3, 37));
      for (size_t t = 0; t < 3; ++t) {
        for (size_t i = 0; i < 37; ++i)
          ASSERT_EQ(out[t * 37 + i], values[static_cast<size_t>(ids[t]) * 37 + i]);
      }
    }
  }
}

TEST(FloatLinear, RefusesOtherTypes) {
  const Tensor weight(DType::kI8, {4, 4});
  const auto backend = make_cpu_backend(CpuIsa::kGeneric);
  EXPECT_THROW(SingleLinear(*backend, FloatWeight{weight.view()}), Error);
}

}  // namespace
}  // namespace tessera
