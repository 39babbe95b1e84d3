// Preparing rows.
#include "tessera/kernels/cpu/row_preparation.h"

#include <cstring>

#include "tessera/format/input_map.h"

namespace tessera {
namespace {

RowQuantizer quantizer_of(const QuantizedLinear& linear) {
  const ActivationFormat& format = linear.activation;
  RowQuantizer how;
  how.bits = format.bits;
  if (!format.per_token) {
    how.kind = RowQuantizer::Kind::kStatic;
    how.static_scale = linear.input_scale.as<float>()[0];
  } else if (!format.symmetric) {
    how.kind = format.real_zero ? RowQuantizer::Kind::kRealZero : RowQuantizer::Kind::kAsymmetric;
  }
  return how;
}

/// Memory of the calling thread for `count` floats.
template <int kUse>
float* thread_scratch(int64_t count) {
  thread_local std::vector<float> memory;
  if (memory.size() < static_cast<size_t>(count)) memory.resize(static_cast<size_t>(count));
  return memory.data();
}

}  // namespace

RowPreparation::RowPreparation(int64_t width, const CpuKernels& kernels)
    : kernels_(kernels), k_in_(width), k_(width), floats_(true) {}

RowPreparation::RowPreparation(const QuantizedLinear& linear, const CpuKernels& kernels)
    : kernels_(kernels),
      k_in_(linear.k_in()),
      k_(linear.k),
      floats_(linear.activation.weight_only()),
      quantizer_(quantizer_of(linear)) {
  const auto repeat = linear.input_repeat.as<uint8_t>();
  repeat_.assign(repeat.begin(), repeat.end());
  const auto outliers = linear.outlier_index.as<int32_t>();
  outlier_index_.assign(outliers.begin(), outliers.end());
  if (!linear.plain_input()) split_map(linear);
}

void RowPreparation::split_map(const QuantizedLinear& linear) {
  const InputMap map(linear);
  for (size_t c = 0; c < static_cast<size_t>(k_); ++c) {
    const auto first = static_cast<size_t>(map.offset[c]), end = static_cast<size_t>(map.offset[c + 1]);
    index_.push_back(map.index[first]);
    gain_.push_back(map.gain[first]);
    for (size_t i = first + 1; i < end; ++i) {
      extras_.push_back({static_cast<int32_t>(c), map.index[i], map.gain[i]});
    }
  }
}

void RowPreparation::reserve(CpuInput& input, int64_t m) const {
  input.format = this;
  if (floats_) {
    input.reserve_floats(m, k_);
  } else {
    input.reserve_codes(m, round_up(k_, kKBlock));
  }
  input.reserve_outliers(m, outliers());
}

float* RowPreparation::row(CpuInput& input, int64_t t) const {
  const bool in_place = floats_ && index_.empty();
  return in_place ? input.float_row(t) : thread_scratch<0>(k_in_);
}

void RowPreparation::map(const float* x, float* mapped) const {
  kernels_.gather(x, index_.data(), gain_.data(), k_, mapped);
  for (const Extra& extra : extras_) mapped[extra.column] += extra.gain * x[extra.index];
}

void RowPreparation::prepare(const float* x, int64_t t, CpuInput& input) const {
  float* outliers = input.outlier_row(t);
  for (size_t f = 0; f < outlier_index_.size(); ++f) outliers[f] = x[outlier_index_[f]];
  const float* row = x;
  if (!index_.empty()) {
    float* mapped = floats_ ? input.float_row(t) : thread_scratch<1>(k_);
    map(x, mapped);
    row = mapped;
  }
  if (!floats_) {
    RowQuantizer how = quantizer_;
    if (!repeat_.empty()) how.repeat = repeat_.data();
    kernels_.quantize(row, k_, round_up(k_, kKBlock), how, input.codes().from(t));
  } else if (row != input.float_row(t)) {
    std::memcpy(input.float_row(t), row, static_cast<size_t>(k_) * sizeof(float));
  }
}

}  // namespace tessera
