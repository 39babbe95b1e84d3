// Quantized layers: packing at load, and the product cut into tiles.
#include "tessera/kernels/cpu/packed_linear.h"

#include <algorithm>
#include <cassert>

#include "tessera/kernels/cpu/blocking.h"
#include "tessera/kernels/cpu/isa.h"

namespace tessera {
namespace {

/// A copy of values [N], zeros up to whole panels; empty stays empty.
template <class T>
std::vector<T> padded(const Tensor& tensor, int64_t panels) {
  const auto values = tensor.as<T>();
  std::vector<T> out(values.begin(), values.end());
  if (!out.empty()) out.resize(static_cast<size_t>(panels * kPanel));
  return out;
}

KernelInfo info_of(const QuantizedLinear& linear, const PackedWeights& packed, CpuIsa isa) {
  const int bits = packed.layout == PackedLayout::kByte ? 8 : 4;
  const bool expanded = bits > weight_bits(linear.weight_format);
  return {describe(linear) + (expanded ? ", expanded to int8" : ""), std::string(name_of(isa)), bits,
          linear.activation.bits};
}

}  // namespace

PackedLinear::PackedLinear(const QuantizedLinear& linear, const RowPreparation& input,
                           const CpuKernels& kernels)
    : kernels_(kernels),
      weights_(pack_weights(linear)),
      input_(input),
      info_(info_of(linear, weights_, kernels.isa)) {
  build_epilogue(linear);
}

void PackedLinear::build_epilogue(const QuantizedLinear& linear) {
  const int64_t panels = weights_.panels(), outliers = input_.outliers();
  scale_ = padded<float>(linear.scale, panels);
  bias_ = padded<float>(linear.bias, panels);
  if (linear.has_zero_point()) row_sum_ = padded<int32_t>(linear.row_sum, panels);
  if (outliers == 0) return;
  outlier_weight_.resize(static_cast<size_t>(panels * outliers * kPanel));
  const auto from = linear.outlier_weight.as<Half>();
  for (int64_t n = 0; n < weights_.n; ++n) {
    for (int64_t f = 0; f < outliers; ++f) {
      outlier_weight_[static_cast<size_t>(((n / kPanel) * outliers + f) * kPanel + n % kPanel)] =
          from[static_cast<size_t>(n * outliers + f)];
    }
  }
}

void PackedLinear::check([[maybe_unused]] const CpuInput& input, [[maybe_unused]] int64_t m) const {
  assert(m <= input.m());
  assert(input.format == &input_ && "prepared for other layers");
}

Epilogue PackedLinear::epilogue(int64_t panel) const {
  const int64_t first = panel * kPanel;
  Epilogue e;
  e.scale = scale_.data() + first;
  if (!row_sum_.empty()) e.row_sum = row_sum_.data() + first;
  e.real_zero = input_.real_zero();
  if (!bias_.empty()) e.bias = bias_.data() + first;
  e.outliers = input_.outliers();
  e.outlier_weight = outlier_weight_.data() + first * e.outliers;
  e.columns = std::min(kPanel, weights_.n - first);
  return e;
}

void PackedLinear::forward(const CpuInput& input, const Rows& out, bool accumulate) const {
  check(input, out.count);
  for_each_tile(out.count, weights_.panels(), [&](int64_t token, int64_t count, int64_t panel) {
    Epilogue e = epilogue(panel);
    e.outlier_input = input.outliers().from(token);
    e.accumulate = accumulate;
    float* y = out.floats(token) + panel * kPanel;
    if (input_.floats()) {
      alignas(64) float sums[kTokenBlock * kPanel];
      kernels_.weight_only_panel(weights_.panel(panel), input.floats().from(token), count, weights_.k, sums);
      kernels_.float_epilogue(e, count, sums, y, out.stride);
    } else {
      alignas(64) int32_t acc[kTokenBlock * kPanel];
      const CodeRows rows = input.codes().from(token);
      kernels_.integer_panel(weights_.panel(panel), rows, count, acc);
      kernels_.integer_epilogue(e, rows, count, acc, y, out.stride);
    }
  });
}

void PackedLinear::accumulators(const CpuInput& input, int64_t m, std::span<int32_t> out) const {
  check(input, m);
  assert(!input_.floats());
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
