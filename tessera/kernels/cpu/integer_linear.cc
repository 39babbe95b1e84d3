// Integer layers: packing at load, rows into codes, and the product cut into tiles.
#include "tessera/kernels/cpu/integer_linear.h"

#include <algorithm>
#include <cassert>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/blocking.h"

namespace tessera {
namespace {

template <class T>
std::vector<T> copy_of(const Tensor& tensor) {
  const auto values = tensor.as<T>();
  return {values.begin(), values.end()};
}

/// A copy of values [N], zeros up to whole panels; empty stays empty.
template <class T>
std::vector<T> padded(const Tensor& tensor, int64_t panels) {
  std::vector<T> out = copy_of<T>(tensor);
  if (!out.empty()) out.resize(static_cast<size_t>(panels * kPanel));
  return out;
}

std::string kernel_name(const QuantizedLinear& linear, const PackedWeights& packed) {
  const bool expanded =
      linear.weight_format == WeightFormat::kUint4Grouped && packed.layout == PackedLayout::kByte;
  return describe(linear) + (expanded ? ", expanded to int8" : "");
}

RowQuantizer quantizer_of(const QuantizedLinear& linear) {
  const ActivationFormat& format = linear.activation;
  if (!format.per_token) {
    return {RowQuantizer::Kind::kStatic, format.bits, linear.input_scale.as<float>()[0]};
  }
  return {format.symmetric ? RowQuantizer::Kind::kSymmetric : RowQuantizer::Kind::kAsymmetric, format.bits,
          0};
}

}  // namespace

IntegerLinear::IntegerLinear(const QuantizedLinear& linear, const CpuKernels& kernels)
    : kernels_(kernels),
      weights_(pack_weights(linear)),
      k_in_(linear.k_in()),
      quantizer_(quantizer_of(linear)),
      kernel_(kernel_name(linear, weights_)),
      weight_bits_(weights_.layout == PackedLayout::kByte ? 8 : 4) {
  if (linear.activation.weight_only() || !linear.input_repeat.empty()) {
    throw Error("the CPU kernels do not run layers of the form '{}'", describe(linear));
  }
  build_map(linear);
  build_epilogue(linear);
}

void IntegerLinear::build_map(const QuantizedLinear& linear) {
  outlier_index_ = copy_of<int32_t>(linear.outlier_index);
  map_index_ = copy_of<int32_t>(linear.input_index);
  map_gain_ = copy_of<float>(linear.input_gain);
  map_offset_ = copy_of<int32_t>(linear.input_offset);
  if (!map_index_.empty() || outlier_index_.empty()) return;
  size_t next = 0;  // no map but outliers: the columns that remain
  for (int32_t k = 0; k < k_in_; ++k) {
    if (next < outlier_index_.size() && outlier_index_[next] == k) {
      ++next;
    } else {
      map_index_.push_back(k);
    }
  }
}

void IntegerLinear::build_epilogue(const QuantizedLinear& linear) {
  const int64_t panels = weights_.panels();
  scale_ = padded<float>(linear.scale, panels);
  bias_ = padded<float>(linear.bias, panels);
  if (!linear.activation.symmetric) row_sum_ = padded<int32_t>(linear.row_sum, panels);
  const auto outliers = static_cast<int64_t>(outlier_index_.size());
  if (outliers == 0) return;
  outlier_weight_.resize(static_cast<size_t>(panels * outliers * kPanel));
  const auto from = linear.outlier_weight.as<Half>();
  for (int64_t n = 0; n < weights_.n; ++n) {
    for (int64_t f = 0; f < outliers; ++f) {
      outlier_weight_[static_cast<size_t>(((n / kPanel) * outliers + f) * kPanel + n % kPanel)] =
          to_float(from[static_cast<size_t>(n * outliers + f)]);
    }
  }
}

KernelInfo IntegerLinear::info() const {
  return {kernel_, std::string(name_of(kernels_.isa)), weight_bits_, quantizer_.bits};
}

void IntegerLinear::reserve(CpuInput& input, int64_t m) const {
  input.reserve_codes(m, weights_.k_padded, static_cast<int64_t>(outlier_index_.size()));
}

void IntegerLinear::map_row(const float* x, float* mapped) const {
  for (size_t c = 0; c < static_cast<size_t>(weights_.k); ++c) {
    const size_t begin = map_offset_.empty() ? c : static_cast<size_t>(map_offset_[c]);
    const size_t end = map_offset_.empty() ? c + 1 : static_cast<size_t>(map_offset_[c + 1]);
    float sum = 0;
    for (size_t i = begin; i < end; ++i) sum += (map_gain_.empty() ? 1.0f : map_gain_[i]) * x[map_index_[i]];
    mapped[c] = sum;
  }
}

void IntegerLinear::quantize_row(const float* x, int64_t t, CpuInput& input) const {
  float* outliers = input.outlier_row(t);
  for (size_t f = 0; f < outlier_index_.size(); ++f) outliers[f] = x[outlier_index_[f]];
  const float* row = x;
  thread_local std::vector<float> mapped;
  if (!map_index_.empty()) {
    mapped.resize(static_cast<size_t>(weights_.k));
    map_row(x, mapped.data());
    row = mapped.data();
  }
  kernels_.quantize(row, weights_.k, weights_.k_padded, quantizer_, input.codes().from(t));
}

void IntegerLinear::check([[maybe_unused]] const CpuInput& input, [[maybe_unused]] int64_t m) const {
  assert(m <= input.m());
  assert(input.width() == weights_.k_padded && "prepared for a layer of another site");
}

Epilogue IntegerLinear::epilogue(int64_t panel) const {
  const int64_t first = panel * kPanel;
  Epilogue e;
  e.scale = scale_.data() + first;
  if (!row_sum_.empty()) e.row_sum = row_sum_.data() + first;
  if (!bias_.empty()) e.bias = bias_.data() + first;
  e.outliers = static_cast<int64_t>(outlier_index_.size());
  e.outlier_weight = outlier_weight_.data() + first * e.outliers;
  e.columns = std::min(kPanel, weights_.n - first);
  return e;
}

void IntegerLinear::forward(const CpuInput& input, int64_t m, float* y, bool accumulate) const {
  check(input, m);
  for_each_tile(m, weights_.panels(), [&](int64_t token, int64_t count, int64_t panel) {
    alignas(64) int32_t acc[kTokenBlock * kPanel];
    const CodeRows rows = input.codes().from(token);
    kernels_.integer_panel(weights_.panel(panel), rows, count, acc);
    Epilogue e = epilogue(panel);
    e.outlier_input = input.outliers();
    e.outlier_input.data += token * e.outlier_input.stride;
    e.accumulate = accumulate;
    kernels_.integer_epilogue(e, rows, count, acc, y + token * weights_.n + panel * kPanel, weights_.n);
  });
}

void IntegerLinear::accumulators(const CpuInput& input, int64_t m, std::span<int32_t> out) const {
  check(input, m);
  for_each_tile(m, weights_.panels(), [&](int64_t token, int64_t count, int64_t panel) {
    alignas(64) int32_t acc[kTokenBlock * kPanel];
    kernels_.integer_panel(weights_.panel(panel), input.codes().from(token), count, acc);
    const int64_t columns = std::min(kPanel, weights_.n - panel * kPanel);
    for (int64_t t = 0; t < count; ++t) {
      std::copy_n(acc + t * kPanel, columns,
                  &out[static_cast<size_t>((token + t) * weights_.n + panel * kPanel)]);
    }
  });
}

}  // namespace tessera
