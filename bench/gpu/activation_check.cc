// Checks the fused activation kernels against double precision (plain quantization: bit for bit against
// format/reference.h) and times them.
#include <cuda_fp16.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "bench/gpu/device.h"
#include "tessera/base/error.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cuda/activation.h"

namespace tessera::bench {
namespace {

using cuda::ActivationProblem;
using cuda::ActivationSource;

constexpr const char* kNames[] = {"plain", "rms norm", "layer norm", "silu product"};

struct Rows {
  int64_t m, k;
  std::vector<__half> x, up;
  std::vector<float> weight, bias;

  Rows(int64_t tokens, int64_t inputs, std::mt19937& rng)
      : m(tokens), k(inputs), x(size()), up(size()), weight(inputs), bias(inputs) {
    std::normal_distribution<float> normal;
    for (auto* half : {&x, &up}) {
      for (auto& v : *half) v = __float2half_rn(2 * normal(rng));
    }
    for (auto* values : {&weight, &bias}) {
      for (auto& v : *values) v = 1 + 0.3f * normal(rng);
    }
    x[0] = __float2half_rn(300);  // an outlier
    if (m > 2) std::fill_n(x.begin() + k, k, __float2half_rn(0));
    if (m > 3) x[static_cast<size_t>(2 * k + 5)] = __float2half_rn(INFINITY);
  }
  size_t size() const { return static_cast<size_t>(m * k); }

  /// Row `token` after the source, in double.
  std::vector<double> expected(ActivationSource source, int64_t token, double epsilon) const {
    const auto count = static_cast<size_t>(k), from = static_cast<size_t>(token * k);
    std::vector<double> y(count);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; ++i) y[i] = __half2float(x[from + i]), sum += y[i];
    const double mean = source == ActivationSource::kLayerNorm ? sum / static_cast<double>(k) : 0;
    for (double v : y) squares += (v - mean) * (v - mean);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(k) + epsilon);
    for (size_t i = 0; i < count; ++i) {
      if (source == ActivationSource::kSiluProduct)
        y[i] = y[i] / (1 + std::exp(-y[i])) * __half2float(up[from + i]);
      if (source == ActivationSource::kRmsNorm) y[i] = y[i] * factor * weight[i];
      if (source == ActivationSource::kLayerNorm) y[i] = (y[i] - mean) * factor * weight[i] + bias[i];
    }
    return y;
  }
};

struct Device {
  DeviceArray<__half> x, up;
  DeviceArray<float> weight, bias, scale;
  DeviceArray<int8_t> codes;

  explicit Device(const Rows& rows)
      : x(rows.x),
        up(rows.up),
        weight(rows.weight),
        bias(rows.bias),
        scale(static_cast<size_t>(rows.m)),
        codes(rows.size()) {}

  ActivationProblem problem(ActivationSource source, const Rows& rows, int bits) const {
    ActivationProblem p;
    p.source = source;
    p.m = rows.m;
    p.k = p.stride = p.codes_stride = rows.k;
    p.x = x.data();
    p.up = up.data();
    p.weight = weight.data();
    p.bias = source == ActivationSource::kLayerNorm ? bias.data() : nullptr;
    p.bits = bits;
    p.codes = codes.data();
    p.scale = scale.data();
    return p;
  }
};

/// Row by row: plain rows must be equal, others may differ by the rounding of one code.
bool row_agrees(const Rows& rows, const ActivationProblem& p, int64_t token, std::span<const int8_t> codes,
                float scale) {
  const std::vector<double> y = rows.expected(p.source, token, p.epsilon);
  const std::vector<float> narrow(y.begin(), y.end());
  std::vector<int8_t> want(y.size());
  const TokenScale reference = quantize_symmetric(narrow, p.bits, want);
  const bool plain = p.source == ActivationSource::kPlain;
  if (std::isnan(reference.scale) != std::isnan(scale)) return false;
  const float error = std::isnan(scale) ? 0 : std::fabs(scale - reference.scale);
  if (plain ? error != 0 : error > 1e-5f * reference.scale) return false;
  for (size_t i = 0; i < y.size(); ++i) {
    if (std::abs(codes[i] - want[i]) > (plain ? 0 : 1)) return false;
  }
  return true;
}

int64_t check(int64_t m, int64_t k, int bits) {
  std::mt19937 rng(static_cast<uint32_t>(m * 131 + k));
  const Rows rows(m, k, rng);
  const Device device(rows);
  int64_t failures = 0;
  for (int source = 0; source < 4; ++source) {
    const ActivationProblem p = device.problem(static_cast<ActivationSource>(source), rows, bits);
    cuda::check(cudaMemset(p.codes, 0x55, rows.size()), "cudaMemset");
    cuda::quantize_activations(p, nullptr, source % 2 == 1);
    cuda::check(cudaDeviceSynchronize(), kNames[source]);
    const std::vector<int8_t> codes = device.codes.download(rows.size());
    const std::vector<float> scale = device.scale.download(static_cast<size_t>(m));
    for (int64_t token = 0; token < m; ++token) {
      const std::span<const int8_t> row(codes.data() + token * k, static_cast<size_t>(k));
      if (row_agrees(rows, p, token, row, scale[static_cast<size_t>(token)])) continue;
      ++failures;
      std::printf("FAIL %s M=%d K=%d bits %d: row %d\n", kNames[source], static_cast<int>(m),
                  static_cast<int>(k), bits, static_cast<int>(token));
    }
  }
  return failures;
}

/// GB/s over copies of the rows that exceed L2.
void time(int64_t m, int64_t k) {
  std::mt19937 rng(1);
  const Rows rows(m, k, rng);
  const auto copies = static_cast<int>(std::max<int64_t>((int64_t{256} << 20) / (m * k * 2), 2));
  std::vector<Device> devices;
  for (int i = 0; i < copies; ++i) devices.emplace_back(rows);
  for (int source = 0; source < 4; ++source) {
    const double us = graph_microseconds(copies, 9, [&](int i, cudaStream_t stream) {
      cuda::quantize_activations(
          devices[static_cast<size_t>(i)].problem(static_cast<ActivationSource>(source), rows, 8), stream);
    });
    const double bytes = static_cast<double>(m * k) * (source == 3 ? 5 : 3);
    std::printf("%s M=%d K=%d: %.2f us, %.0f GB/s\n", kNames[source], static_cast<int>(m),
                static_cast<int>(k), us, bytes / us / 1e3);
  }
}

int run() {
  int64_t failures = 0;
  for (int64_t k : {16, 144, 4096, 5120, 11008, 28672}) {
    for (int64_t m : {1, 5}) {
      for (int bits : {8, 4}) failures += check(m, k, bits);
    }
  }
  std::printf("activations: %d failures\n", static_cast<int>(failures));
  for (int64_t m : {256, 1024, 4096}) time(m, 4096);
  time(1024, 11008);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera::bench

int main() {
  try {
    return tessera::bench::run();
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "activation_check: %s\n", error.what());
    return 2;
  }
}
