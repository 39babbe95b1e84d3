// Layers with random or extreme codes on the device, with the reference's answer: what the checks of the GEMM
// share.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>

#include "bench/gpu/device.h"
#include "tessera/base/parallel.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cuda/gemm.h"
#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::bench {

using cuda::GemmConfig;
using cuda::GemmProblem;
using cuda::KernelFamily;
using cuda::OutputType;

enum class Codes { kRandom, kExtreme };

struct Case {
  WeightFormat format;
  int64_t group_size, n, k;
  Codes codes;
  int code_bits = 8;  ///< of activations
};

/// True when `word` is among the arguments of the program.
inline bool asked(int argc, char** argv, std::string_view word) {
  return std::find(argv + 1, argv + argc, word) != argv + argc;
}

inline int pick(std::mt19937& rng, int lo, int hi) {
  return std::uniform_int_distribution<int>(lo, hi)(rng);
}

/// A layer with random codes, or with the largest products that the format allows.
inline QuantizedLinear make_layer(const Case& c, unsigned seed) {
  LayerOptions options{.format = c.format, .n = c.n, .k = c.k, .group_size = c.group_size};
  if (c.codes == Codes::kRandom) {
    options.group_zeros = c.format == WeightFormat::kUint4Grouped;
  } else {
    options.extreme = c.format == WeightFormat::kInt8 ? 127 : c.format == WeightFormat::kInt4 ? 8 : 0;
  }
  return random_layer(options, seed);
}

inline std::vector<int32_t> reference_accumulators(const QuantizedLinear& linear, std::span<const int8_t> x,
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
  int code_bits;
  QuantizedLinear linear;
  std::vector<int8_t> x;
  std::vector<int32_t> expected;
  DeviceArray<uint8_t> blocks;
  DeviceArray<int8_t> codes;
  DeviceArray<int32_t> out;

  explicit Fixture(const Case& c)
      : rng(static_cast<uint32_t>(c.n * 31 + c.k)),
        code_bits(c.code_bits),
        linear(make_layer(c, static_cast<unsigned>(rng()))),
        x(make_codes(c)),
        expected(reference_accumulators(linear, x, kMaxTokens)),
        blocks(cuda::pack_weights(linear)),
        codes(x),
        out(static_cast<size_t>(kMaxTokens * c.n + 64)) {}

  std::vector<int8_t> make_codes(const Case& c) {
    std::vector<int8_t> values(static_cast<size_t>(kMaxTokens * c.k));
    const int most = (1 << (c.code_bits - 1)) - 1, least = -most - 1;
    const int extreme = c.format == WeightFormat::kInt8 ? most : least;
    for (auto& q : values)
      q = static_cast<int8_t>(c.codes == Codes::kExtreme ? extreme : pick(rng, least, most));
    return values;
  }

  GemmProblem problem(int64_t m) const {
    GemmProblem p;
    p.weights = {cuda::layout_of(linear), linear.n, linear.k, blocks.data()};
    p.m = m;
    p.codes = codes.data();
    p.codes_stride = linear.k;
    p.code_bits = code_bits;
    p.out_stride = linear.n;
    return p;
  }
};

inline const char* name_of(KernelFamily family) {
  switch (family) {
    case KernelFamily::kSm90a:
      return "sm90a";
    case KernelFamily::kSm80:
      return "sm80";
    default:
      return "sm80 int4";
  }
}

inline std::string describe(const GemmProblem& p, const GemmConfig& c) {
  return fmt::format("{} bits g{} N={} K={} M={} {} tile {}x{} split {}", p.weights.layout.bits,
                     p.weights.layout.group_size, p.weights.n, p.weights.k, p.m, name_of(c.family), c.outputs,
                     c.tokens, c.split);
}

}  // namespace tessera::bench
