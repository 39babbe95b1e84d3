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

constexpr int64_t kTokens = 17;      ///< more than one tile of every kernel, and odd
constexpr int64_t kHalfTokens = 15;  ///< of them, whose inputs are in the range of 16 bits
/// Of float sums, relative to a token's largest output: float inputs, and inputs rounded to 16 bits.
constexpr float kFloatError = 1e-5f, kHalfError = 2e-3f;

/// Of one token's outputs.
int64_t count_off(std::span<const float> y, std::span<const float> expected, float error) {
  float largest = 0;
  for (float value : expected) largest = std::max(largest, std::fabs(value));
  const float tolerance = error * largest;
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

/// A layer between host memory and the backend's.
class StagedLinear {
 public:
  StagedLinear(Backend& backend, const QuantizedLinear& linear, int64_t width, int64_t max_rows)
      : backend_(backend),
        kernel_(backend, linear),
        x_(backend.make_rows(RowUse::kResidual, max_rows, width)),
        y_(backend.make_rows(RowUse::kResidual, max_rows, linear.n)) {}

  void run(std::span<const float> x, int64_t m, std::span<float> y) {
    std::vector<float> strided(static_cast<size_t>(x_.rows.count * x_.rows.stride));
    for (int64_t t = 0; t < m; ++t) {
      std::copy_n(&x[static_cast<size_t>(t * x_.rows.width)], x_.rows.width,
                  &strided[static_cast<size_t>(t * x_.rows.stride)]);
    }
    backend_.upload(std::as_bytes(std::span<const float>(strided)), *x_.memory);
    kernel_.run(x_.rows.first(m), y_.rows.first(m));
    backend_.download(y_.rows.first(m), y);
  }

 private:
  Backend& backend_;
  SingleLinear kernel_;
  RowBuffer x_, y_;
};

bool rounds_to_halves(Backend& backend) {
  return backend.make_rows(RowUse::kIntermediate, 1, 32).rows.type == DType::kF16;
}

void check_layer(const std::string& name, const QuantizedLinear& linear, int64_t width, Backend& backend,
                 KernelCheck& check) {
  linear.require_kernel(name);
  const std::vector<float> x = test_rows(width);
  std::vector<float> expected(static_cast<size_t>(kTokens * linear.n));
  parallel_for(kTokens, [&](int64_t t) {
    const auto row = [t](auto& values, int64_t columns) {
      return std::span(values).subspan(static_cast<size_t>(t * columns), static_cast<size_t>(columns));
    };
    reference_forward(linear, row(x, width), 1, row(expected, linear.n));
  });
  const bool floats = linear.activation.weight_only() || !linear.outlier_index.empty();
  const int64_t m = floats && rounds_to_halves(backend) ? kHalfTokens : kTokens;
  check_kernel(name, linear, std::span(x).first(static_cast<size_t>(m * width)), m,
               std::span(expected).first(static_cast<size_t>(m * linear.n)), backend, check);
}

}  // namespace

void check_kernel(const std::string& name, const QuantizedLinear& linear, std::span<const float> x, int64_t m,
                  std::span<const float> expected, Backend& backend, KernelCheck& check) {
  const bool exact = !linear.activation.weight_only() && linear.outlier_index.empty();
  const float error = exact ? 0 : rounds_to_halves(backend) ? kHalfError : kFloatError;
  const size_t width = x.size() / static_cast<size_t>(m), n = static_cast<size_t>(linear.n);
  StagedLinear kernel(backend, linear, static_cast<int64_t>(width), m);
  std::vector<float> together(expected.size()), alone(n);
  kernel.run(x, m, together);
  int64_t off = 0;
  for (size_t t = 0; t < static_cast<size_t>(m); ++t) {
    const std::span<const float> want = expected.subspan(t * n, n);
    off += count_off(std::span(together).subspan(t * n, n), want, error);
    kernel.run(x.subspan(t * width, width), 1, alone);
    off += count_off(alone, want, error);
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
  const auto linears = spec.linear_ids();
  for (int64_t layer = 0; quantization && layer < spec.n_layers; ++layer) {
    reporter.progress("checking kernels, blocks", layer, spec.n_layers);
    for (LinearId id : linears) {
      const std::string name = spec.linear_name(layer, id);
      if (!is_quantized(checkpoint, name)) continue;
      const LinearSpec& shape = spec.linears[id];
      check_layer(name, load_quantized_linear(checkpoint, name, *quantization, shape.n, shape.k), shape.k,
                  backend, check);
    }
  }
  if (quantization && is_quantized(checkpoint, spec.lm_head_name())) {
    check_layer(spec.lm_head_name(),
                load_quantized_linear(checkpoint, spec.lm_head_name(), *quantization, spec.vocab_size,
                                      spec.hidden_size),
                spec.hidden_size, backend, check);
  }
  if (check.layers == 0)
    throw Error("{}: has no quantized layers; name the output of tessera quantize", dir.string());
  reporter.progress("checking kernels, blocks", spec.n_layers, spec.n_layers);
  return check;
}

}  // namespace tessera
