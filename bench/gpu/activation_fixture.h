// Rows of activations on the device with their layer's view of them: what the checks and timings share.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bench/gpu/device.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/kernels/cuda/activation.h"

namespace tessera::bench {

using cuda::ActivationProblem;
using cuda::ActivationSource;
using cuda::OutputType;

/// How rows become codes.
struct Form {
  int bits = 8;
  bool symmetric = true, mapped = false;
};

inline std::string describe(const Form& form) {
  return fmt::format("{} bits {}{}", form.bits, form.symmetric ? "symmetric" : "asymmetric",
                     form.mapped ? ", mapped" : "");
}

/// A layer's view of rows of `width` inputs: format and map, without weights.
inline QuantizedLinear make_input(int64_t width, const Form& form, std::mt19937& rng) {
  QuantizedLinear linear;
  linear.k = width;
  linear.activation = {form.bits, form.symmetric, true};
  if (!form.mapped) return linear;
  linear.k = (width + width / 3) / 16 * 16;
  const auto below = [&](int64_t bound) {
    return static_cast<int32_t>(rng() % static_cast<uint32_t>(bound));
  };
  std::vector<int32_t> index, offset{0};
  std::vector<float> gain;
  std::vector<uint8_t> repeat;
  for (int64_t c = 0; c < linear.k; ++c) {
    const int32_t sources = below(8) == 0 ? 3 : 1;
    for (int32_t i = 0; i < sources; ++i) {
      index.push_back(below(width));
      gain.push_back(1.0f / static_cast<float>(1 + below(4)));
    }
    offset.push_back(static_cast<int32_t>(index.size()));
    repeat.push_back(static_cast<uint8_t>(1 + below(3)));
  }
  linear.input_index = Tensor::from<int32_t>(index, {static_cast<int64_t>(index.size())});
  linear.input_gain = Tensor::from<float>(gain, {static_cast<int64_t>(gain.size())});
  linear.input_offset = Tensor::from<int32_t>(offset, {linear.k + 1});
  if (form.bits <= 4) linear.input_repeat = Tensor::from<uint8_t>(repeat, {linear.k});
  return linear;
}

/// The base columns and outliers of QUIK: every 16th input bypasses quantization.
inline QuantizedLinear make_quik_input(int64_t width) {
  QuantizedLinear linear;
  linear.activation = {4, false, true};
  std::vector<int32_t> base, outliers;
  for (int32_t i = 0; i < width; ++i) (i % 16 == 5 ? outliers : base).push_back(i);
  linear.k = static_cast<int64_t>(base.size());
  linear.input_index = Tensor::from<int32_t>(base, {linear.k});
  linear.outlier_index = Tensor::from<int32_t>(outliers, {static_cast<int64_t>(outliers.size())});
  return linear;
}

/// Numbers as they lie in memory, rounded.
inline std::vector<uint8_t> encode(const std::vector<float>& values, OutputType type) {
  std::vector<uint8_t> bytes(values.size() * (type == OutputType::kFloat ? 4 : 2));
  for (size_t i = 0; i < values.size(); ++i) {
    const __half half = __float2half_rn(values[i]);
    const __nv_bfloat16 bfloat16 = __float2bfloat16_rn(values[i]);
    if (type == OutputType::kFloat) std::memcpy(&bytes[4 * i], &values[i], 4);
    if (type == OutputType::kHalf) std::memcpy(&bytes[2 * i], &half, 2);
    if (type == OutputType::kBFloat16) std::memcpy(&bytes[2 * i], &bfloat16, 2);
  }
  return bytes;
}

inline float rounded(float value, OutputType type) {
  if (type == OutputType::kHalf) return __half2float(__float2half_rn(value));
  if (type == OutputType::kBFloat16) return __bfloat162float(__float2bfloat16_rn(value));
  return value;
}

/// Rows of numbers of a type, among them rows with a large mean, of zeros and not finite.
struct Rows {
  int64_t m, width;
  OutputType type;
  QuantizedLinear linear;
  std::vector<float> x, up, weight, bias;

  Rows(int64_t tokens, int64_t inputs, QuantizedLinear input, std::mt19937& rng,
       OutputType number = OutputType::kHalf)
      : m(tokens),
        width(inputs),
        type(number),
        linear(std::move(input)),
        x(static_cast<size_t>(tokens * inputs)),
        up(x.size()),
        weight(static_cast<size_t>(inputs)),
        bias(static_cast<size_t>(inputs)) {
    std::normal_distribution<float> normal;
    for (auto* values : {&x, &up}) {
      for (auto& v : *values) v = rounded(2 * normal(rng), type);
    }
    for (auto* values : {&weight, &bias}) {
      for (auto& v : *values) v = rounded(1 + 0.3f * normal(rng), type);
    }
    x[0] = 300;  // an outlier
    const auto row = [&](int64_t token) { return x.begin() + token * width; };
    if (m > 2) std::fill_n(row(1), width, 0.0f);
    if (m > 3) *row(2) = INFINITY;
    if (m > 4) *row(3) = NAN;
    if (m > 5) std::transform(row(4), row(5), row(4), [&](float v) { return rounded(v + 100, type); });
  }

  /// Row `token` after the source, in double.
  std::vector<double> expected(ActivationSource source, int64_t token, double epsilon) const {
    const auto count = static_cast<size_t>(width), from = static_cast<size_t>(token * width);
    std::vector<double> y(count);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; ++i) y[i] = x[from + i], sum += y[i];
    const double mean = source == ActivationSource::kLayerNorm ? sum / static_cast<double>(width) : 0;
    for (double v : y) squares += (v - mean) * (v - mean);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (size_t i = 0; i < count; ++i) {
      if (source == ActivationSource::kSiluProduct) y[i] = y[i] / (1 + std::exp(-y[i])) * up[from + i];
      if (source == ActivationSource::kRmsNorm) y[i] = y[i] * factor * weight[i];
      if (source == ActivationSource::kLayerNorm) y[i] = (y[i] - mean) * factor * weight[i] + bias[i];
    }
    return y;
  }
};

template <class T>
DeviceArray<T> upload(const Tensor& tensor) {
  return DeviceArray<T>(std::span<const T>(tensor.as<T>()));
}

struct Device {
  DeviceArray<uint8_t> x, up, narrow_weight, narrow_bias;
  DeviceArray<float> weight, bias, scale;
  DeviceArray<int8_t> codes;
  DeviceArray<int32_t> zero, index, offset, outlier_index;
  DeviceArray<float> gain;
  DeviceArray<uint8_t> repeat;
  DeviceArray<__half> outliers;
  int64_t outlier_stride;

  explicit Device(const Rows& rows)
      : x(encode(rows.x, rows.type)),
        up(encode(rows.up, rows.type)),
        narrow_weight(encode(rows.weight, rows.type)),
        narrow_bias(encode(rows.bias, rows.type)),
        weight(rows.weight),
        bias(rows.bias),
        scale(static_cast<size_t>(rows.m)),
        codes(static_cast<size_t>(rows.m * rows.linear.k)),
        zero(static_cast<size_t>(rows.m)),
        index(upload<int32_t>(rows.linear.input_index)),
        offset(upload<int32_t>(rows.linear.input_offset)),
        outlier_index(upload<int32_t>(rows.linear.outlier_index)),
        gain(upload<float>(rows.linear.input_gain)),
        repeat(upload<uint8_t>(rows.linear.input_repeat)),
        outliers(static_cast<size_t>(rows.m * (rows.width / 16 + 32))),
        outlier_stride((static_cast<int64_t>(outlier_index.size()) + 31) / 32 * 32) {}

  ActivationProblem problem(ActivationSource source, const Rows& rows,
                            OutputType norm_type = OutputType::kFloat) const {
    const auto given = [](const auto& array) { return array.size() > 0 ? array.data() : nullptr; };
    ActivationProblem p;
    p.source = source;
    p.m = rows.m;
    p.k = p.codes_stride = rows.linear.k;
    p.inputs = p.stride = rows.width;
    p.x = x.data();
    p.up = up.data();
    const bool narrow = norm_type != OutputType::kFloat;
    p.type = rows.type;
    p.norm_type = norm_type;
    p.weight = narrow ? static_cast<const void*>(narrow_weight.data()) : weight.data();
    if (source == ActivationSource::kLayerNorm)
      p.bias = narrow ? static_cast<const void*>(narrow_bias.data()) : bias.data();
    p.map = {given(index), given(gain), given(offset), given(repeat)};
    if (outlier_stride > 0) {
      p.outliers = {static_cast<int64_t>(outlier_index.size()), outlier_index.data(), outliers.data(),
                    outlier_stride};
    }
    p.bits = rows.linear.activation.bits;
    p.symmetric = rows.linear.activation.symmetric;
    p.codes = codes.data();
    p.scale = scale.data();
    p.zero = zero.data();
    return p;
  }
};

}  // namespace tessera::bench
