// Checks the CUDA GEMM against format/reference.h: accumulators bit for bit for every weight layout, tile and
// split, all remainders of M and N, extreme codes, large K; and the epilogue in every output type.
//   gemm_check [small] [sm80]     small: a few launches of each kind, for compute-sanitizer; sm80: only the
//                                 kernels for 8.0, as on all devices but those of 9.0
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <cstring>
#include <iterator>
#include <random>
#include <string>

#include "bench/gpu/device.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cuda/cost_model.h"
#include "tessera/kernels/cuda/packed_weights.h"
#include "tessera/kernels/cuda/sm80/configs.h"

namespace tessera::bench {
namespace {

using cuda::GemmConfig;
using cuda::GemmProblem;
using cuda::KernelFamily;
using cuda::OutputType;

enum class Codes { kRandom, kExtreme };

struct Case {
  WeightFormat format;
  int64_t group_size, n, k;
  Codes codes;
};

int pick(std::mt19937& rng, int lo, int hi) {
  return std::uniform_int_distribution<int>(lo, hi)(rng);
}

/// A layer with random codes, or with the largest products that the format allows.
QuantizedLinear make_layer(const Case& c, std::mt19937& rng) {
  const bool extreme = c.codes == Codes::kExtreme;
  QuantizedLinear linear;
  linear.n = c.n;
  linear.k = c.k;
  linear.group_size = c.group_size;
  linear.weight_format = c.format;
  const auto count = static_cast<size_t>(c.n * c.k);
  std::vector<int8_t> codes(count);
  if (c.format == WeightFormat::kInt8) {
    for (auto& q : codes) q = static_cast<int8_t>(extreme ? 127 : pick(rng, -127, 127));
    linear.qweight = Tensor::from<int8_t>(codes, {c.n, c.k});
  } else {
    const int lo = c.format == WeightFormat::kInt4 ? -8 : 0;
    for (auto& q : codes) q = static_cast<int8_t>(extreme ? lo : pick(rng, lo, lo + 15));
    linear.qweight = pack_int4(codes, c.n, c.k);
  }
  if (c.format == WeightFormat::kUint4Grouped) {
    std::vector<int8_t> scale(static_cast<size_t>(c.n * linear.groups()));
    std::vector<uint8_t> zero(scale.size());
    for (size_t i = 0; i < scale.size(); ++i) {
      zero[i] = static_cast<uint8_t>(extreme ? 8 : pick(rng, 0, 15));
      const int largest = std::max<int>(zero[i], 15 - zero[i]);
      scale[i] = static_cast<int8_t>(extreme ? 16 : pick(rng, 1, 127 / largest));
    }
    linear.group_scale = Tensor::from<int8_t>(scale, {c.n, linear.groups()});
    linear.group_zero = Tensor::from<uint8_t>(zero, {c.n, linear.groups()});
  }
  return linear;
}

std::vector<int32_t> reference_accumulators(const QuantizedLinear& linear, std::span<const int8_t> x,
                                            int64_t m) {
  std::vector<int32_t> acc(static_cast<size_t>(m * linear.n));
  parallel_for_dynamic(linear.n, [&](int64_t n) {
    std::vector<int8_t> w8(static_cast<size_t>(linear.k));
    expand_row(linear, n, w8);
    for (int64_t t = 0; t < m; ++t) {
      acc[static_cast<size_t>(t * linear.n + n)] =
          dot(x.subspan(static_cast<size_t>(t * linear.k), static_cast<size_t>(linear.k)), w8);
    }
  });
  return acc;
}

/// One layer on the device with the reference's answer for up to kMaxTokens tokens.
struct Fixture {
  static constexpr int64_t kMaxTokens = 257;
  std::mt19937 rng;
  QuantizedLinear linear;
  std::vector<int8_t> x;
  std::vector<int32_t> expected;
  DeviceArray<uint8_t> blocks;
  DeviceArray<int8_t> codes;
  DeviceArray<int32_t> out;

  explicit Fixture(const Case& c)
      : rng(static_cast<uint32_t>(c.n * 31 + c.k)),
        linear(make_layer(c, rng)),
        x(make_codes(c)),
        expected(reference_accumulators(linear, x, kMaxTokens)),
        blocks(cuda::pack_weights(linear)),
        codes(x),
        out(static_cast<size_t>(kMaxTokens * c.n + 64)) {}

  std::vector<int8_t> make_codes(const Case& c) {
    std::vector<int8_t> values(static_cast<size_t>(kMaxTokens * c.k));
    const int extreme = c.format == WeightFormat::kInt8 ? 127 : -128;
    for (auto& q : values)
      q = static_cast<int8_t>(c.codes == Codes::kExtreme ? extreme : pick(rng, -128, 127));
    return values;
  }

  GemmProblem problem(int64_t m) const {
    GemmProblem p;
    p.weights = {cuda::layout_of(linear), linear.n, linear.k, blocks.data()};
    p.m = m;
    p.codes = codes.data();
    p.codes_stride = linear.k;
    p.out_stride = linear.n;
    return p;
  }
};

const char* name_of(KernelFamily family) {
  return family == KernelFamily::kSm80 ? "sm80" : "sm90a";
}

std::string describe(const GemmProblem& p, const GemmConfig& c) {
  return fmt::format("{} bits g{} N={} K={} M={} {} tile {}x{} split {}", p.weights.layout.bits,
                     p.weights.layout.group_size, p.weights.n, p.weights.k, p.m, name_of(c.family), c.rows,
                     c.tokens, c.split);
}

/// Runs one configuration into a poisoned output and compares every element.
bool check_accumulators(const Fixture& f, int64_t m, const GemmConfig& config) {
  GemmProblem p = f.problem(m);
  const auto count = static_cast<size_t>(m * p.weights.n);
  cuda::check(cudaMemset(f.out.data(), 0x5A, (count + 64) * sizeof(int32_t)), "cudaMemset");
  p.out = f.out.data();
  p.output = OutputType::kAccumulator;
  cuda::gemm(p, nullptr, {config, false});
  cuda::check(cudaDeviceSynchronize(), describe(p, config).c_str());
  const std::vector<int32_t> got = f.out.download(count + 64);
  for (size_t i = 0; i < count + 64; ++i) {
    const int32_t want = i < count ? f.expected[i] : 0x5A5A5A5A;
    if (got[i] == want) continue;
    std::printf("FAIL %s: element (%zu, %zu) is %d, not %d\n", describe(p, config).c_str(),
                i / static_cast<size_t>(p.weights.n), i % static_cast<size_t>(p.weights.n), got[i], want);
    return false;
  }
  return true;
}

template <class T>
float as_float(T value) {
  if constexpr (std::is_same_v<T, float>) return value;
  if constexpr (std::is_same_v<T, __half>) return __half2float(value);
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return __bfloat162float(value);
}
template <class T>
T rounded(float value) {
  if constexpr (std::is_same_v<T, float>) return value;
  if constexpr (std::is_same_v<T, __half>) return __float2half_rn(value);
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return __float2bfloat16_rn(value);
}

/// Scales, zero points, bias and residual (in place) against scale_accumulator, bit for bit.
template <class T>
bool check_epilogue(const Fixture& f, int64_t m, OutputType type, const GemmConfig& config,
                    std::mt19937& rng) {
  GemmProblem p = f.problem(m);
  const auto n = static_cast<size_t>(p.weights.n), tokens = static_cast<size_t>(m);
  std::uniform_real_distribution<float> real(-1, 1);
  std::vector<float> scale(n), bias(n), token_scale(tokens);
  std::vector<int32_t> row_sum(n), token_zero(tokens);
  std::vector<T> residual(tokens * n);
  for (auto& v : scale) v = 1e-4f * real(rng);
  for (auto& v : bias) v = real(rng);
  for (auto& v : token_scale) v = 0.02f * real(rng);
  for (auto& v : row_sum) v = pick(rng, -100000, 100000);
  for (auto& v : token_zero) v = pick(rng, -128, 127);
  for (auto& v : residual) v = rounded<T>(real(rng));
  const DeviceArray<float> d_scale(scale), d_bias(bias), d_token_scale(token_scale);
  const DeviceArray<int32_t> d_row_sum(row_sum), d_token_zero(token_zero);
  const DeviceArray<T> out(residual);
  p.weights.scale = d_scale.data();
  p.weights.bias = d_bias.data();
  p.weights.row_sum = d_row_sum.data();
  p.token_scale = d_token_scale.data();
  p.token_zero = d_token_zero.data();
  p.residual = p.out = out.data();
  p.output = type;
  cuda::gemm(p, nullptr, {config, true});
  cuda::check(cudaDeviceSynchronize(), describe(p, config).c_str());
  const std::vector<T> got = out.download(tokens * n);
  for (size_t i = 0; i < tokens * n; ++i) {
    const size_t token = i / n, row = i % n;
    const float y =
        scale_accumulator(f.expected[i], row_sum[row], scale[row], {token_scale[token], token_zero[token]});
    volatile float with_bias = y + bias[row];
    const T want = rounded<T>(with_bias + as_float(residual[i]));
    if (std::memcmp(&got[i], &want, sizeof(T)) == 0) continue;
    std::printf("FAIL epilogue %d, %s: element (%zu, %zu) is %g, not %g\n", static_cast<int>(type),
                describe(p, config).c_str(), token, row, static_cast<double>(as_float(got[i])),
                static_cast<double>(as_float(want)));
    return false;
  }
  return true;
}

std::vector<int64_t> token_counts(const GemmConfig& config, bool small, bool every) {
  if (small) return {1, config.tokens + 1};
  std::vector<int64_t> counts;
  if (every) {
    for (int64_t m = 1; m <= Fixture::kMaxTokens; ++m) counts.push_back(m);
    return counts;
  }
  return {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257};
}

bool is_hopper() {
  int device = 0, major = 0, minor = 0;
  cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  cuda::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "attribute");
  cuda::check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "attribute");
  return major == 9 && minor == 0;
}

std::vector<GemmConfig> configs(int64_t k, bool sm90a) {
  std::vector<GemmConfig> all(cuda::sm80::all_configs().begin(), cuda::sm80::all_configs().end());
  if (sm90a) {
    std::copy_if(cuda::all_configs().begin(), cuda::all_configs().end(), std::back_inserter(all),
                 [&](const GemmConfig& config) { return cuda::runs(config, k); });
  }
  return all;
}

int run(bool small, bool sm90a) {
  using enum WeightFormat;
  std::vector<Case> cases;
  const std::pair<WeightFormat, int64_t> formats[] = {
      {kInt4, 0}, {kInt8, 0}, {kUint4Grouped, 128}, {kUint4Grouped, 64}, {kUint4Grouped, 32}};
  for (auto [format, group] : formats) {
    cases.push_back({format, group, 328, 1280, Codes::kRandom});
    if (small) continue;
    cases.push_back({format, group, 203, group > 0 ? 3 * group : 144, Codes::kRandom});
    cases.push_back({format, group, 1030, 4096, Codes::kRandom});
    cases.push_back({format, group, 130, 28672, Codes::kRandom});
    cases.push_back({format, group, 72, 28672, Codes::kExtreme});
  }
  cases.push_back({kUint4Grouped, 256, 328, 1280, Codes::kRandom});
  cases.push_back({kInt4, 0, 34000, 256, Codes::kRandom});  // more tiles than blocks: several rounds a block
  if (!small) cases.push_back({kInt4, 0, 9000, 1024, Codes::kRandom});
  int64_t launches = 0, failures = 0;
  for (const Case& c : cases) {
    const Fixture f(c);
    std::mt19937 rng(7);
    for (const GemmConfig& config : configs(c.k, sm90a)) {
      if (small && config.split == 8) continue;
      const bool sm80 = config.family == KernelFamily::kSm80;
      const bool every = c.k == 1280 && c.group_size == 0 && (config.split == 2 || sm80);
      if (small) {
        std::printf("%s tile %dx%d split %d\n", name_of(config.family), config.rows, config.tokens,
                    config.split);
        std::fflush(stdout);
      }
      for (int64_t m : token_counts(config, small, every)) {
        ++launches;
        failures += !check_accumulators(f, m, config);
      }
      if (c.codes == Codes::kExtreme || c.n > 1000 || c.k > 5000) continue;
      for (int64_t m : {int64_t{1}, std::min<int64_t>(config.tokens + 3, Fixture::kMaxTokens)}) {
        launches += 3;
        failures += !check_epilogue<float>(f, m, OutputType::kFloat, config, rng);
        failures += !check_epilogue<__half>(f, m, OutputType::kHalf, config, rng);
        failures += !check_epilogue<__nv_bfloat16>(f, m, OutputType::kBFloat16, config, rng);
      }
      if (failures > 20) return 1;
    }
    std::printf("checked %s g%d N=%d K=%d %s\n", std::string(name_of(c.format)).c_str(),
                static_cast<int>(c.group_size), static_cast<int>(c.n), static_cast<int>(c.k),
                c.codes == Codes::kExtreme ? "extreme codes" : "");
    std::fflush(stdout);
  }
  std::printf("%lld launches, %lld failures\n", static_cast<long long>(launches),
              static_cast<long long>(failures));
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const auto asked = [&](const char* word) {
      return std::find(words.begin(), words.end(), word) != words.end();
    };
    return tessera::bench::run(asked("small"), !asked("sm80") && tessera::bench::is_hopper());
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "gemm_check: %s\n", error.what());
    return 2;
  }
}
