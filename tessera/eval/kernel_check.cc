// Layer by layer comparison of the kernels with the reference arithmetic.
#include "tessera/eval/kernel_check.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tessera/arch/model_spec.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/single_linear.h"

namespace tessera {
namespace {

constexpr int64_t kTokens = 17;  ///< more than one tile of every kernel, and odd
constexpr float kFloatError = 1e-5f;

/// Of one token's outputs.
int64_t count_off(std::span<const float> y, std::span<const float> expected, bool exact) {
  float largest = 0;
  for (float value : expected) largest = std::max(largest, std::fabs(value));
  const float tolerance = exact ? 0 : kFloatError * largest;
  int64_t off = 0;
  for (size_t i = 0; i < y.size(); ++i) off += !(std::fabs(y[i] - expected[i]) <= tolerance);
  return off;
}

/// kTokens rows of `width` floats.
std::vector<float> test_rows(int64_t width) {
  const auto k = static_cast<size_t>(width);
  std::vector<float> x(kTokens * k);
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  for (float& v : x) v = normal(rng);
  for (size_t large = 0; large < std::max<size_t>(1, k / 128);
       ++large) {  // the same in all rows, as in models
    const size_t channel = rng() % k;
    for (size_t t = 0; t < kTokens; ++t) x[t * k + channel] *= 30;
  }
  const auto row = [&](size_t t) { return std::span(x).subspan(t * k, k); };
  std::ranges::fill(row(12), 1.0f);      // every code the largest: the largest sums
  std::ranges::fill(row(13), -1.0f);     // and the smallest
  std::ranges::fill(row(14), 0.0f);      // no range to take a scale from
  row(15)[rng() % k] = 1e30f;            // leaves the other codes 0
  for (float& v : row(16)) v *= 1e-32f;  // below the smallest scale
  return x;
}

void check_layer(const std::string& name, const QuantizedLinear& linear, int64_t width, Backend& backend,
                 KernelCheck& check) {
  const std::vector<float> x = test_rows(width);
  std::vector<float> expected(static_cast<size_t>(kTokens * linear.n));
  parallel_for(kTokens, [&](int64_t t) {
    const auto row = [t](auto& values, int64_t columns) {
      return std::span(values).subspan(static_cast<size_t>(t * columns), static_cast<size_t>(columns));
    };
    reference_forward(linear, row(x, width), 1, row(expected, linear.n));
  });
  check_kernel(name, linear, x, kTokens, expected, backend, check);
}

}  // namespace

void check_kernel(const std::string& name, const QuantizedLinear& linear, std::span<const float> x, int64_t m,
                  std::span<const float> expected, Backend& backend, KernelCheck& check) {
  const bool exact = !linear.activation.weight_only() && linear.outlier_index.empty();
  SingleLinear kernel(backend, linear);
  const size_t width = x.size() / static_cast<size_t>(m), n = static_cast<size_t>(linear.n);
  std::vector<float> together(expected.size()), alone(n);
  kernel.run(x.data(), m, together.data());
  int64_t off = 0;
  for (size_t t = 0; t < static_cast<size_t>(m); ++t) {
    const std::span<const float> want = expected.subspan(t * n, n);
    off += count_off(std::span(together).subspan(t * n, n), want, exact);
    kernel.run(&x[t * width], 1, alone.data());
    off += count_off(alone, want, exact);
  }
  ++check.layers;
  check.outputs += 2 * static_cast<int64_t>(expected.size());
  check.outputs_off += off;
  if (off > 0 && check.first_off.empty()) check.first_off = name;
}

KernelCheck check_kernels(const std::filesystem::path& dir, Backend& backend, Reporter& reporter) {
  const ModelConfig config = ModelConfig::load(dir);
  const Checkpoint checkpoint(dir);
  const ModelSpec spec = make_model_spec(config, checkpoint);
  const auto quantization = read_quantization_config(config);
  check_tensors(spec, checkpoint);
  KernelCheck check;
  const auto linears = spec.existing_linears();
  for (int64_t layer = 0; quantization && layer < spec.n_layers; ++layer) {
    reporter.progress("kernels", layer, spec.n_layers);
    for (LinearId id : linears) {
      const std::string name = spec.linear_name(layer, id);
      if (!is_quantized(checkpoint, name)) continue;
      const LinearSpec& shape = spec.linears[id];
      check_layer(name, load_quantized_linear(checkpoint, name, *quantization, shape.n, shape.k), shape.k,
                  backend, check);
    }
  }
  if (check.layers == 0)
    throw Error("{}: has no quantized layers; name the output of tessera quantize", dir.string());
  reporter.progress("kernels", spec.n_layers, spec.n_layers);
  return check;
}

}  // namespace tessera
