// One linear layer in W4A8: rounds float weights to int4, multiplies on the best instruction set of this CPU,
// and compares every output with the reference arithmetic. Exit status 1 when one differs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/single_linear.h"

namespace {

constexpr int64_t kTokens = 3, kOutputs = 96, kInputs = 256;

std::vector<float> random_matrix(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (float& v : values) v = normal(rng);
  return values;
}

/// Weights [N, K] rounded to the nearest of 15 values, one scale an output.
tessera::QuantizedLinear round_to_int4(const std::vector<float>& weights, int64_t n, int64_t k) {
  std::vector<int8_t> codes(weights.size());
  std::vector<float> scales(static_cast<size_t>(n));
  for (int64_t output = 0; output < n; ++output) {
    const float* row = &weights[static_cast<size_t>(output * k)];
    float largest = 0;
    for (int64_t i = 0; i < k; ++i) largest = std::max(largest, std::fabs(row[i]));
    const float scale = scales[static_cast<size_t>(output)] = largest / 7;
    for (int64_t i = 0; i < k; ++i)
      codes[static_cast<size_t>(output * k + i)] = static_cast<int8_t>(std::lrint(row[i] / scale));
  }
  tessera::QuantizedLinear layer;
  layer.n = n;
  layer.k = k;
  layer.qweight = tessera::pack_int4(codes, n, k);
  layer.scale = tessera::Tensor::from<float>(scales, {n});
  layer.validate("example");
  return layer;
}

int multiply_and_compare() {
  const auto layer = round_to_int4(random_matrix(kOutputs, kInputs, 1), kOutputs, kInputs);
  const auto x = random_matrix(kTokens, kInputs, 2);

  const auto backend = tessera::make_cpu_backend(tessera::detect_cpu_isa());
  tessera::SingleLinear kernel(*backend, layer);
  std::vector<float> y(kTokens * kOutputs), expected(y.size());
  kernel.run(x.data(), kTokens, y.data());

  tessera::reference_forward(layer, x, kTokens, expected);
  const bool equal = std::ranges::equal(y, expected);
  fmt::print("{} on {}: outputs {} the reference\n", tessera::describe(layer), backend->name(),
             equal ? "equal" : "differ from");
  return equal ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return multiply_and_compare();
  } catch (const tessera::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
