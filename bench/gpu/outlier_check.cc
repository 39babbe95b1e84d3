// Checks the CUDA GEMM with outlier columns against double precision, and that they leave accumulators alone.
//   outlier_check [small] [sm80]     as gemm_check
#include <cmath>
#include <cstdio>
#include <vector>

#include "bench/gpu/gemm_fixture.h"
#include "tessera/base/error.h"

namespace tessera::bench {
namespace {

/// A fixture with outliers, zero points, bias and residual.
struct OutlierFixture {
  static constexpr int64_t kMaxTokens = Fixture::kMaxTokens;
  Fixture base;
  int64_t count, padded;
  std::vector<Half> x;  ///< [kMaxTokens, padded]
  std::vector<float> scale, bias, token_scale, residual;
  std::vector<int32_t> row_sum, token_zero;
  DeviceArray<uint8_t> blocks;
  DeviceArray<Half> d_x;
  DeviceArray<float> d_scale, d_bias, d_token_scale, d_residual, out;
  DeviceArray<int32_t> d_row_sum, d_token_zero;
  std::vector<double> want, magnitude;  ///< [kMaxTokens, N]: outputs without residual, and their terms' sizes

  OutlierFixture(const Case& c, int64_t outliers)
      : base(c),
        count(outliers),
        padded(prepare(c.n)),
        x(values()),
        scale(random(c.n, 1e-4f)),
        bias(random(c.n, 1)),
        token_scale(random(kMaxTokens, 0.02f)),
        residual(random(kMaxTokens * c.n, 1)),
        row_sum(integers(c.n, 100000)),
        token_zero(integers(kMaxTokens, 127)),
        blocks(cuda::pack_outliers(base.linear)),
        d_x(x),
        d_scale(scale),
        d_bias(bias),
        d_token_scale(token_scale),
        d_residual(residual),
        out(residual.size()),
        d_row_sum(row_sum),
        d_token_zero(token_zero),
        want(residual.size()),
        magnitude(residual.size()) {
    parallel_for_dynamic(kMaxTokens, [&](int64_t token) { expect(static_cast<size_t>(token)); });
  }

  void expect(size_t token) {
    const auto n = static_cast<size_t>(base.linear.n), columns = static_cast<size_t>(count);
    const auto weight = base.linear.outlier_weight.as<Half>();
    for (size_t row = 0; row < n; ++row) {
      const size_t i = token * n + row;
      const double integer = scale_accumulator(base.expected[i], row_sum[row], scale[row],
                                               {token_scale[token], token_zero[token]});
      want[i] = integer + bias[row];
      magnitude[i] = std::fabs(integer) + 2;
      for (size_t k = 0; k < columns; ++k) {
        const double product = static_cast<double>(to_float(x[token * static_cast<size_t>(padded) + k])) *
                               static_cast<double>(to_float(weight[row * columns + k]));
        want[i] += product;
        magnitude[i] += std::fabs(product);
      }
    }
  }

  int64_t prepare(int64_t n) {
    base.linear.outlier_index = Tensor(DType::kI32, {count});
    base.linear.outlier_weight = Tensor(DType::kF16, {n, count});
    for (Half& w : base.linear.outlier_weight.as<Half>()) w = to_half(real(1));
    return cuda::padded_outliers(base.linear);
  }
  float real(float bound) { return std::uniform_real_distribution<float>(-bound, bound)(base.rng); }
  std::vector<float> random(int64_t size, float bound) {
    std::vector<float> all(static_cast<size_t>(size));
    for (float& v : all) v = real(bound);
    return all;
  }
  std::vector<int32_t> integers(int64_t size, int bound) {
    std::vector<int32_t> all(static_cast<size_t>(size));
    for (int32_t& v : all) v = pick(base.rng, -bound, bound);
    return all;
  }
  std::vector<Half> values() {
    std::vector<Half> all(static_cast<size_t>(kMaxTokens * padded), to_half(0));
    for (int64_t i = 0; i < kMaxTokens * padded; ++i) {
      if (i % padded < count) all[static_cast<size_t>(i)] = to_half(real(8));
    }
    return all;
  }

  /// Float outputs with a residual, or halves without.
  GemmProblem problem(int64_t m, OutputType type) const {
    GemmProblem p = base.problem(m);
    p.weights.scale = d_scale.data();
    p.weights.bias = d_bias.data();
    p.weights.row_sum = d_row_sum.data();
    p.token_scale = d_token_scale.data();
    p.token_zero = d_token_zero.data();
    p.outliers = {padded, blocks.data(), d_x.data(), padded};
    if (type == OutputType::kFloat) p.residual = d_residual.data();
    p.output = type;
    p.out = out.data();
    return p;
  }
};

/// The first `count` outputs.
std::vector<float> outputs(const OutlierFixture& f, OutputType type, size_t count) {
  if (type == OutputType::kFloat) return f.out.download(count);
  std::vector<Half> halves(count);
  cuda::check(cudaMemcpy(halves.data(), f.out.data(), count * sizeof(Half), cudaMemcpyDeviceToHost),
              "download");
  std::vector<float> floats(count);
  for (size_t i = 0; i < count; ++i) floats[i] = to_float(halves[i]);
  return floats;
}

/// Outputs within the rounding of a float sum, of which tensor cores keep a few bits less, and of a half.
bool check_outputs(const OutlierFixture& f, int64_t m, OutputType type, const GemmConfig& config) {
  const GemmProblem p = f.problem(m, type);
  const double unit = type == OutputType::kHalf ? 0x1p-11 : 0;
  const auto n = static_cast<size_t>(p.weights.n);
  cuda::check(cudaMemset(f.out.data(), 0x5A, f.out.size() * sizeof(float)), "cudaMemset");
  cuda::gemm(p, nullptr, {config, true});
  cuda::check(cudaDeviceSynchronize(), describe(p, config).c_str());
  const std::vector<float> got = outputs(f, type, static_cast<size_t>(m) * n);
  for (size_t i = 0; i < got.size(); ++i) {
    const double want = f.want[i] + (p.residual ? f.residual[i] : 0);
    if (std::fabs(got[i] - want) <= 0x1p-20 * f.magnitude[i] + unit * std::fabs(want)) continue;
    std::printf("FAIL outliers %d, %s: element (%zu, %zu) is %g, not %g\n", static_cast<int>(f.count),
                describe(p, config).c_str(), i / n, i % n, static_cast<double>(got[i]), want);
    return false;
  }
  return true;
}

bool check_accumulators(const OutlierFixture& f, int64_t m, const GemmConfig& config) {
  GemmProblem p = f.problem(m, OutputType::kFloat);
  p.out = f.base.out.data();
  p.output = OutputType::kAccumulator;
  const auto configs = cuda::configs_for(p, 0);
  if (std::find(configs.begin(), configs.end(), config) == configs.end()) return true;
  cuda::gemm(p, nullptr, {config, false});
  cuda::check(cudaDeviceSynchronize(), describe(p, config).c_str());
  const std::vector<int32_t> got = f.base.out.download(static_cast<size_t>(m * p.weights.n));
  return std::equal(got.begin(), got.end(), f.base.expected.begin());
}

int run(bool small, bool only_sm80) {
  using enum WeightFormat;
  struct Kind {
    WeightFormat format;
    int64_t group;
    int code_bits;
  };
  const Kind kinds[] = {{kInt4, 0, 8},           {kInt4, 0, 4},          {kInt8, 0, 8},
                        {kUint4Grouped, 128, 8}, {kUint4Grouped, 64, 8}, {kUint4Grouped, 32, 8}};
  int64_t launches = 0, failures = 0;
  for (auto [format, group, bits] : kinds) {
    for (int64_t outliers : {1, 40, 256, 704}) {
      if (small && outliers != 40) continue;
      const OutlierFixture f({format, group, outliers == 40 ? 203 : 328, 1280, Codes::kRandom, bits},
                             outliers);
      for (OutputType type : {OutputType::kFloat, OutputType::kHalf}) {
        for (const GemmConfig& config : cuda::configs_for(f.problem(1, type), 0)) {
          if (bits == 4 && config.family != KernelFamily::kSm80Int4) continue;
          if (only_sm80 && config.family == KernelFamily::kSm90a) continue;
          for (int64_t m : {1, 7, 8, 16, 17, 33, 64, 65, 129, 150, 257}) {
            if (small && m != 7 && m != 150) continue;
            ++launches;
            failures += !check_outputs(f, m, type, config);
          }
          ++launches;
          failures += !check_accumulators(f, 150, config);
        }
      }
    }
  }
  std::printf("outliers: %lld launches, %lld failures\n", static_cast<long long>(launches),
              static_cast<long long>(failures));
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  try {
    return tessera::bench::run(tessera::bench::asked(argc, argv, "small"),
                               tessera::bench::asked(argc, argv, "sm80"));
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "outlier_check: %s\n", error.what());
    return 2;
  }
}
