// Scalar definitions of the integer arithmetic. Clarity before speed.
#include "tessera/format/reference.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "tessera/base/parallel.h"

namespace tessera {
namespace {

int8_t rounded_code(float value, int lo, int hi) {
  return static_cast<int8_t>(
      std::clamp(std::nearbyint(value), static_cast<float>(lo), static_cast<float>(hi)));
}

bool all_finite(std::span<const float> x) {
  return std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); });
}

/// sum_k x[k] * w[k] in double, rounded once.
float float_dot(std::span<const float> x, std::span<const float> w) {
  double sum = 0;
  for (size_t k = 0; k < x.size(); ++k) sum += double{x[k]} * w[k];
  return static_cast<float>(sum);
}

TokenScale not_finite(std::span<int8_t> codes) {
  std::fill(codes.begin(), codes.end(), int8_t{0});
  return {std::numeric_limits<float>::quiet_NaN(), 0};
}

}  // namespace

TokenScale quantize_symmetric(std::span<const float> x, int bits, std::span<int8_t> codes) {
  if (!all_finite(x)) return not_finite(codes);
  const int qmax = (1 << (bits - 1)) - 1;
  float absmax = 0;
  for (float v : x) absmax = std::max(absmax, std::fabs(v));
  if (absmax < 0x1p-100f) {
    std::fill(codes.begin(), codes.end(), int8_t{0});
    return {0, 0};
  }
  const float inverse = static_cast<float>(qmax) / absmax;
  for (size_t k = 0; k < x.size(); ++k) codes[k] = rounded_code(x[k] * inverse, -qmax, qmax);
  return {absmax / static_cast<float>(qmax), 0};
}

TokenScale quantize_asymmetric(std::span<const float> x, int bits, std::span<int8_t> codes) {
  if (!all_finite(x)) return not_finite(codes);
  const int levels = (1 << bits) - 1, half = 1 << (bits - 1);
  float lo = 0, hi = 0;
  for (float v : x) {
    lo = std::min(lo, v);
    hi = std::max(hi, v);
  }
  if (hi - lo < 0x1p-100f) {
    lo = 0;
    hi = 1;
  }
  const float scale = (hi - lo) / static_cast<float>(levels);
  const float zero = std::nearbyint(-lo / scale);
  for (size_t k = 0; k < x.size(); ++k) {
    const float u = std::clamp(std::nearbyint(x[k] / scale) + zero, 0.0f, static_cast<float>(levels));
    codes[k] = static_cast<int8_t>(static_cast<int>(u) - half);
  }
  return {scale, static_cast<int32_t>(zero) - half};
}

TokenScale quantize_real_zero(std::span<const float> x, int bits, std::span<int8_t> codes) {
  if (!all_finite(x)) return not_finite(codes);
  constexpr float kLeastScale = 1e-6f;
  const int half = 1 << (bits - 1);
  const auto levels = static_cast<float>(2 * half - 1);
  float least = x.empty() ? 0 : x[0], largest = least;
  for (float v : x) {
    least = std::min(least, v);
    largest = std::max(largest, v);
  }
  if (!std::isfinite(largest - least)) return not_finite(codes);
  const float scale = std::max((largest - least) / levels, kLeastScale);
  for (size_t k = 0; k < x.size(); ++k) {
    const float u = std::clamp(std::nearbyint((x[k] - least) / scale), 0.0f, levels);
    codes[k] = static_cast<int8_t>(static_cast<int>(u) - half);
  }
  return {scale, 0, least + static_cast<float>(half) * scale};
}

TokenScale quantize_static(std::span<const float> x, int bits, float scale, std::span<int8_t> codes) {
  if (!all_finite(x)) return not_finite(codes);
  const int qmax = (1 << (bits - 1)) - 1;
  for (size_t k = 0; k < x.size(); ++k) codes[k] = rounded_code(x[k] / scale, -qmax, qmax);
  return {scale, 0};
}

TokenScale quantize_token(const QuantizedLinear& linear, std::span<const float> x, std::span<int8_t> codes) {
  const ActivationFormat& format = linear.activation;
  assert(!format.weight_only());
  TokenScale token = !format.per_token
                         ? quantize_static(x, format.bits, linear.input_scale.as<float>()[0], codes)
                     : format.symmetric ? quantize_symmetric(x, format.bits, codes)
                     : format.real_zero ? quantize_real_zero(x, format.bits, codes)
                                        : quantize_asymmetric(x, format.bits, codes);
  const auto repeat = linear.input_repeat.as<uint8_t>();
  if (repeat.empty()) return token;
  for (size_t k = 0; k < codes.size(); ++k) {
    codes[k] = static_cast<int8_t>(repeat[k] * (codes[k] - token.zero_point));
  }
  return {token.scale, 0};
}

void map_input(const InputMap& map, std::span<const float> x, std::span<float> mapped) {
  for (size_t c = 0; c < mapped.size(); ++c) {
    float sum = 0;
    for (auto i = static_cast<size_t>(map.offset[c]); i < static_cast<size_t>(map.offset[c + 1]); ++i) {
      sum += map.gain[i] * x[static_cast<size_t>(map.index[i])];
    }
    mapped[c] = sum;
  }
}

void expand_row(const QuantizedLinear& linear, int64_t n, std::span<int8_t> w8) {
  assert(linear.weight_format != WeightFormat::kUint4Float);
  const int64_t k = linear.k;
  if (linear.weight_format == WeightFormat::kInt8) {
    const auto codes =
        linear.qweight.as<int8_t>().subspan(static_cast<size_t>(n * k), static_cast<size_t>(k));
    std::copy(codes.begin(), codes.end(), w8.begin());
    return;
  }
  const auto bytes = linear.qweight.as<uint8_t>();
  const auto group_scale = linear.group_scale.as<int8_t>();
  const auto group_zero = linear.group_zero.as<uint8_t>();
  for (int64_t i = 0; i < k; ++i) {
    const int nibble = unpack_nibble(bytes[static_cast<size_t>((n * k + i) / 2)], i);
    int value = sign_extend_nibble(nibble);
    if (linear.weight_format == WeightFormat::kUint4Grouped) {
      const size_t group = static_cast<size_t>(n * linear.groups() + i / linear.group_size);
      value = group_scale[group] * (nibble - (group_zero.empty() ? 8 : group_zero[group]));
    }
    w8[static_cast<size_t>(i)] = static_cast<int8_t>(value);
  }
}

void expand_row(const QuantizedLinear& linear, int64_t n, std::span<float> w) {
  if (linear.weight_format != WeightFormat::kUint4Float) {
    std::vector<int8_t> w8(w.size());
    expand_row(linear, n, w8);
    std::copy(w8.begin(), w8.end(), w.begin());
    return;
  }
  const auto bytes = linear.qweight.as<uint8_t>();
  const auto group_scale = linear.group_scale.as<Half>();
  const auto group_zero = linear.group_zero.as<uint8_t>();
  for (int64_t i = 0; i < linear.k; ++i) {
    const auto group = static_cast<size_t>(n * linear.groups() + i / linear.group_size);
    const int u = unpack_nibble(bytes[static_cast<size_t>((n * linear.k + i) / 2)], i);
    const int steps = u - (group_zero.empty() ? 8 : group_zero[group]);
    w[static_cast<size_t>(i)] = to_float(group_scale[group]) * static_cast<float>(steps);
  }
}

int32_t dot(std::span<const int8_t> codes, std::span<const int8_t> w8) {
  int32_t acc = 0;
  for (size_t k = 0; k < codes.size(); ++k) acc += int32_t{codes[k]} * w8[k];
  return acc;
}

void reference_forward(const QuantizedLinear& linear, std::span<const float> x, int64_t m, std::span<float> y,
                       std::vector<int32_t>* accumulators) {
  const auto k = static_cast<size_t>(linear.k), n = static_cast<size_t>(linear.n);
  const size_t k_in = x.size() / static_cast<size_t>(m);
  const bool weight_only = linear.activation.weight_only();
  const auto scale = linear.scale.as<float>();
  const auto bias = linear.bias.as<float>();
  const auto row_sum = linear.row_sum.as<int32_t>();
  const auto outliers = linear.outlier_index.as<int32_t>();
  const auto outlier_weight = linear.outlier_weight.as<Half>();
  const InputMap map(linear);
  std::vector<float> mapped(k);
  std::vector<int8_t> codes(k), w8(k);
  std::vector<float> w(k);
  if (accumulators && !weight_only) accumulators->resize(static_cast<size_t>(m) * n);
  for (size_t t = 0; t < static_cast<size_t>(m); ++t) {
    const std::span<const float> token = x.subspan(t * k_in, k_in);
    map_input(map, token, mapped);
    const TokenScale token_scale = weight_only ? TokenScale{1, 0} : quantize_token(linear, mapped, codes);
    for (size_t j = 0; j < n; ++j) {
      float out;
      if (weight_only) {
        expand_row(linear, static_cast<int64_t>(j), w);
        out = float_dot(mapped, w) * scale[j];
      } else {
        expand_row(linear, static_cast<int64_t>(j), w8);
        const int32_t acc = dot(codes, w8);
        if (accumulators) (*accumulators)[t * n + j] = acc;
        out = scale_accumulator(acc, row_sum.empty() ? 0 : row_sum[j], scale[j], token_scale);
      }
      float bypass = 0;
      for (size_t f = 0; f < outliers.size(); ++f) {
        bypass += token[static_cast<size_t>(outliers[f])] * to_float(outlier_weight[j * outliers.size() + f]);
      }
      if (!outliers.empty()) out += bypass;
      y[t * n + j] = bias.empty() ? out : out + bias[j];
    }
  }
}

std::vector<float> dequantize(const QuantizedLinear& linear) {
  const auto k = static_cast<size_t>(linear.k);
  const auto scale = linear.scale.as<float>();
  std::vector<float> out(static_cast<size_t>(linear.n) * k);
  parallel_for(linear.n, [&](int64_t n) {
    const auto row = std::span(out).subspan(static_cast<size_t>(n) * k, k);
    expand_row(linear, n, row);
    for (float& w : row) w *= scale[static_cast<size_t>(n)];
  });
  return out;
}

std::vector<float> input_weights(const QuantizedLinear& linear) {
  const std::vector<float> columns = dequantize(linear);
  const InputMap map(linear);
  const auto outliers = linear.outlier_index.as<int32_t>();
  const auto outlier_weight = linear.outlier_weight.as<Half>();
  const auto repeat = linear.input_repeat.as<uint8_t>();
  const auto k = static_cast<size_t>(linear.k), k_in = static_cast<size_t>(linear.k_in());
  std::vector<float> out(static_cast<size_t>(linear.n) * k_in);
  parallel_for(linear.n, [&](int64_t n) {
    const auto row = static_cast<size_t>(n);
    float* const to = &out[row * k_in];
    for (size_t c = 0; c < k; ++c) {
      const float weight = columns[row * k + c] * static_cast<float>(repeat.empty() ? 1 : repeat[c]);
      for (auto i = static_cast<size_t>(map.offset[c]); i < static_cast<size_t>(map.offset[c + 1]); ++i) {
        to[map.index[i]] += map.gain[i] * weight;
      }
    }
    for (size_t f = 0; f < outliers.size(); ++f) {
      to[outliers[f]] += to_float(outlier_weight[row * outliers.size() + f]);
    }
  });
  return out;
}

}  // namespace tessera
