// Norm, gated activations and quantizers of every instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>

#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cpu/cpu_input.h"
#include "tessera/kernels/cpu/isa.h"

namespace tessera {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kEps = 0x1p-24;  // half a unit in the last place, relative
constexpr int64_t kWidths[] = {1, 2, 15, 16, 17, 31, 100, 1408};

/// One row, quantized.
struct Codes {
  std::vector<int8_t> codes;
  TokenScale scale;
  int32_t sum = 0;
};

Codes quantize(CpuIsa isa, const std::vector<float>& x, const RowQuantizer& how) {
  const auto k = static_cast<int64_t>(x.size()), k_padded = round_up(k, kKBlock);
  CpuInput input;
  input.reserve_codes(2, k_padded);
  const CodeRows rows = input.codes().from(1);
  std::memset(rows.codes, 77, static_cast<size_t>(k_padded));
  kernels_for(isa).quantize(x.data(), k, k_padded, how, rows);
  for (int64_t i = k; i < k_padded; ++i) EXPECT_EQ(rows.codes[i], 0) << "padding";
  TokenScale scale{rows.scale[0], rows.zero_point[0]};
  if (how.kind == RowQuantizer::Kind::kRealZero) scale.offset = rows.offset[0];
  return {{rows.codes, rows.codes + k}, scale, rows.sum[0]};
}

Codes reference(const std::vector<float>& x, const RowQuantizer& how) {
  Codes out;
  out.codes.resize(x.size());
  switch (how.kind) {
    case RowQuantizer::Kind::kSymmetric:
      out.scale = quantize_symmetric(x, how.bits, out.codes);
      break;
    case RowQuantizer::Kind::kAsymmetric:
      out.scale = quantize_asymmetric(x, how.bits, out.codes);
      break;
    case RowQuantizer::Kind::kRealZero:
      out.scale = quantize_real_zero(x, how.bits, out.codes);
      break;
    case RowQuantizer::Kind::kStatic:
      out.scale = quantize_static(x, how.bits, how.static_scale, out.codes);
      break;
  }
  out.sum = std::accumulate(out.codes.begin(), out.codes.end(), 0);
  return out;
}

void expect_reference_codes(const std::vector<float>& x, const RowQuantizer& how) {
  const Codes expected = reference(x, how);
  for (CpuIsa isa : available_cpu_isas()) {
    SCOPED_TRACE(name_of(isa));
    const Codes got = quantize(isa, x, how);
    EXPECT_EQ(got.codes, expected.codes);
    EXPECT_TRUE(got.scale.scale == expected.scale.scale ||
                (std::isnan(got.scale.scale) && std::isnan(expected.scale.scale)))
        << got.scale.scale << " for " << expected.scale.scale;
    EXPECT_EQ(got.scale.zero_point, expected.scale.zero_point);
    EXPECT_EQ(got.scale.offset, expected.scale.offset);
    EXPECT_EQ(got.sum, expected.sum);
  }
}

/// Every quantizer on one row.
void expect_reference_codes(const std::vector<float>& x) {
  for (int bits : {8, 4}) {
    for (auto kind : {RowQuantizer::Kind::kSymmetric, RowQuantizer::Kind::kAsymmetric,
                      RowQuantizer::Kind::kRealZero, RowQuantizer::Kind::kStatic}) {
      SCOPED_TRACE(testing::Message() << bits << " bits, kind " << static_cast<int>(kind));
      expect_reference_codes(x, {kind, bits, 0.013f});
    }
  }
}

TEST(Quantizers, EqualTheReferenceForEveryWidth) {
  for (int64_t width : kWidths) {
    for (float sigma : {1.0f, 1e-20f, 1e20f}) expect_reference_codes(random_floats(width, 1, sigma));
  }
}

TEST(Quantizers, EqualTheReferenceOnTies) {
  std::vector<float> x;
  for (int i = -255; i <= 255; ++i) x.push_back(0.5f * static_cast<float>(i));  // absmax 127.5
  x.push_back(127.0f);
  expect_reference_codes(x);
  for (float& v : x) v = std::min(std::fabs(v), 127.0f);  // scale 1: exact halves
  expect_reference_codes(x);
}

TEST(Quantizers, EqualTheReferenceOnRowsAtTheEdges) {
  const float tiny = std::numeric_limits<float>::denorm_min(), huge = std::numeric_limits<float>::max();
  for (float value : {0.0f, -0.0f, tiny, -tiny, 0x1p-101f, 0x1p-100f, 1.0f, -1.0f, huge, -huge}) {
    std::vector<float> x(37, value);
    expect_reference_codes(x);
    x[20] = -value;
    expect_reference_codes(x);
  }
}

TEST(Quantizers, RowsThatAreNotFiniteHaveNanScaleAndCodesZero) {
  for (float bad : {kNan, kInf, -kInf}) {
    for (size_t at : {0, 5, 15, 16, 31, 36}) {
      auto x = random_floats(37, 2);
      x[at] = bad;
      expect_reference_codes(x);
    }
  }
}

TEST(Quantizers, CodesOfCodesAreTheSameAndErrorsStayWithinHalfAStep) {
  const RowQuantizer how;
  for (unsigned seed = 0; seed < 20; ++seed) {
    const auto x = random_floats(100, seed, 3.0f);
    for (CpuIsa isa : available_cpu_isas()) {
      const Codes once = quantize(isa, x, how);
      std::vector<float> restored;
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_LE(std::abs(once.codes[i]), 127);
        restored.push_back(static_cast<float>(once.codes[i]) * once.scale.scale);
        EXPECT_LE(std::fabs(restored[i] - x[i]), once.scale.scale * (0.5f + 1e-4f));
      }
      EXPECT_EQ(quantize(isa, restored, how).codes, once.codes);
    }
  }
}

/// y of every ISA; they must agree in every bit.
template <class Run>
std::vector<float> same_everywhere(int64_t width, const Run& run) {
  std::vector<float> first;
  for (CpuIsa isa : available_cpu_isas()) {
    std::vector<float> y(static_cast<size_t>(width) + 1, 123.0f);
    run(kernels_for(isa), y.data());
    EXPECT_EQ(y.back(), 123.0f) << "wrote past the row";
    if (first.empty()) first = y;
    EXPECT_EQ(std::memcmp(y.data(), first.data(), y.size() * sizeof(float)), 0) << name_of(isa);
  }
  first.pop_back();
  return first;
}

TEST(Norm, IsCloseToTheDefinitionAndEqualOnEveryIsa) {
  for (int64_t width : kWidths) {
    const auto x = random_floats(width, 3, 5.0f), gain = random_floats(width, 4),
               bias = random_floats(width, 5);
    for (bool layer_norm : {false, true}) {
      const RowNorm how{layer_norm, 1e-5f, gain.data(), layer_norm ? bias.data() : nullptr};
      const auto y = same_everywhere(
          width, [&](const CpuKernels& kernels, float* out) { kernels.norm(x.data(), width, how, out); });
      double mean = 0, square = 0, largest = 0;
      const auto count = static_cast<double>(width);
      if (layer_norm) mean = std::accumulate(x.begin(), x.end(), 0.0) / count;
      for (float v : x) {
        square += (v - mean) * (v - mean) / count;
        largest = std::max(largest, std::fabs(double{v}));
      }
      const double inverse = 1 / std::sqrt(square + double{how.eps});
      // Sums of width / 16 + 4 rounded terms; the mean's error is relative to the largest value.
      const double steps = count / 16 + 12;
      for (size_t i = 0; i < y.size(); ++i) {
        const double exact = (x[i] - mean) * inverse * gain[i] + (layer_norm ? bias[i] : 0.0f);
        const double size = (std::fabs(x[i]) + (layer_norm ? largest : 0)) * inverse * std::fabs(gain[i]);
        EXPECT_NEAR(y[i], exact, steps * kEps * (size + std::fabs(exact)));
      }
    }
  }
}

TEST(Norm, MayOverwriteItsInput) {
  const auto gain = random_floats(100, 4), x = random_floats(100, 3);
  for (bool layer_norm : {false, true}) {
    const RowNorm how{layer_norm, 1e-5f, gain.data(), nullptr};
    for (CpuIsa isa : available_cpu_isas()) {
      std::vector<float> apart(100), in_place = x;
      kernels_for(isa).norm(x.data(), 100, how, apart.data());
      kernels_for(isa).norm(in_place.data(), 100, how, in_place.data());
      EXPECT_EQ(in_place, apart) << name_of(isa);
    }
  }
}

double activated(double x, GluActivation activation) {
  switch (activation) {
    case GluActivation::kSilu:
      return x / (1 + std::exp(-x));
    case GluActivation::kRelu:
      return std::max(x, 0.0);
    case GluActivation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case GluActivation::kGeluTanh:
      return x / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
  }
  return 0;
}

TEST(Glu, IsCloseToTheDefinitionAndEqualOnEveryIsa) {
  std::vector<float> gate;
  for (int i = -9000; i <= 9000; ++i) gate.push_back(static_cast<float>(i) * 0.01f);
  const auto width = static_cast<int64_t>(gate.size());
  const auto up = random_floats(width, 6);
  for (auto activation :
       {GluActivation::kSilu, GluActivation::kRelu, GluActivation::kGelu, GluActivation::kGeluTanh}) {
    const auto gated = same_everywhere(width, [&](const CpuKernels& kernels, float* out) {
      kernels.glu(gate.data(), up.data(), width, activation, out);
    });
    const auto plain = same_everywhere(width, [&](const CpuKernels& kernels, float* out) {
      kernels.glu(nullptr, gate.data(), width, activation, out);
    });
    // SiLU: an exponential within 2 units and three roundings, and nothing of the exponential below e^-87.
    // GELU: the absolute error of the formula for erf; its approximation: four roundings of an exponent of at
    // most 90, beyond which nothing is left.
    const bool gelu = activation == GluActivation::kGelu, tanh = activation == GluActivation::kGeluTanh;
    for (size_t i = 0; i < gate.size(); ++i) {
      const double exact = activated(gate[i], activation);
      const double bound = gelu ? std::fabs(gate[i]) * (1e-7 + 8 * kEps)
                                : std::fabs(exact) * (tanh ? 4 * 90 : 8) * kEps + std::fabs(gate[i]) * 1e-37;
      EXPECT_NEAR(plain[i], exact, bound) << gate[i];
      EXPECT_NEAR(gated[i], exact * up[i], (bound + std::fabs(exact) * kEps) * std::fabs(up[i])) << gate[i];
    }
  }
}

TEST(Glu, KeepsValuesThatAreNotFinite) {
  for (float bad : {kNan, kInf, -kInf}) {
    for (auto activation : {GluActivation::kSilu, GluActivation::kGelu, GluActivation::kGeluTanh}) {
      std::vector<float> gate(20, 1.0f), up(20, 1.0f), y(20);
      (bad > 0 || std::isnan(bad) ? gate : up)[17] = bad;
      for (CpuIsa isa : available_cpu_isas()) {
        kernels_for(isa).glu(gate.data(), up.data(), 20, activation, y.data());
        EXPECT_FALSE(std::isfinite(y[17])) << bad;
        EXPECT_TRUE(std::isfinite(y[16]));
      }
    }
  }
}

TEST(Conversions, HalfEqualsTheScalarDefinition) {
  std::vector<float> x = random_floats(1000, 7, 1000.0f);
  for (float v :
       {0.0f, -0.0f, 65504.0f, 65519.0f, 65520.0f, 1e-8f, 6e-8f, 3e-8f, 1e9f, -1e9f, kInf, 0x1.004p-14f})
    x.push_back(v);
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {  // halfway between neighbours
    x.push_back(0.5f * (to_float(Half{static_cast<uint16_t>(bits)}) +
                        to_float(Half{static_cast<uint16_t>(bits + 1)})));
  }
  for (CpuIsa isa : available_cpu_isas()) {
    std::vector<Half> y(x.size());
    kernels_for(isa).to_half(x.data(), static_cast<int64_t>(x.size()), y.data());
    std::vector<float> back(x.size());
    kernels_for(isa).to_float({DType::kF16, y.data(), 0}, static_cast<int64_t>(x.size()), back.data());
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(y[i].bits, to_half(x[i]).bits) << x[i] << ' ' << name_of(isa);
      ASSERT_EQ(back[i], to_float(y[i]));
    }
  }
}

}  // namespace
}  // namespace tessera
