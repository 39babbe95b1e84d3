// Checks the CUDA GEMM against format/reference.h: accumulators bit for bit for every weight layout, tile and
// split, all remainders of M and N, extreme codes, large K; and the epilogue in every output type.
//   gemm_check [small] [sm80]     small: a few launches of each kind, for compute-sanitizer; sm80: only the
//                                 kernels for 8.0
// Codes of 4 bits are checked in the kernels made for them; to others they are codes like any.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <cstring>
#include <random>
#include <string>

#include "bench/gpu/gemm_fixture.h"
#include "tessera/base/error.h"

namespace tessera::bench {
namespace {

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
    if (std::memcmp(&got[i], &want, sizeof(T)) == 0) continue;  // NOLINT(bugprone-*): the bits are meant
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

int run(bool small, bool only_sm80) {
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
  for (size_t i = 0, count = cases.size(); i < count; ++i) {
    Case narrow = cases[i];
    narrow.code_bits = 4;
    if (narrow.format == kInt4) cases.push_back(narrow);
  }
  int64_t launches = 0, failures = 0;
  for (const Case& c : cases) {
    const Fixture f(c);
    std::mt19937 rng(7);
    for (const GemmConfig& config : cuda::configs_for(f.problem(1), 0)) {
      const bool sm80 = config.family != KernelFamily::kSm90a;
      if ((small && config.split == 8) || (only_sm80 && !sm80)) continue;
      if (c.code_bits == 4 && config.family != KernelFamily::kSm80Int4) continue;
      const bool every = c.k == 1280 && c.group_size == 0 && (config.split == 2 || sm80);
      if (small) {
        std::printf("%s tile %dx%d split %d\n", name_of(config.family), config.outputs, config.tokens,
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
    std::printf("checked %s g%d N=%d K=%d, %d-bit codes %s\n", std::string(name_of(c.format)).c_str(),
                static_cast<int>(c.group_size), static_cast<int>(c.n), static_cast<int>(c.k), c.code_bits,
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
    return tessera::bench::run(tessera::bench::asked(argc, argv, "small"),
                               tessera::bench::asked(argc, argv, "sm80"));
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "gemm_check: %s\n", error.what());
    return 2;
  }
}
