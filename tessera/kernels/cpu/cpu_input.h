// The prepared input of a site's linears: float rows, or codes with their scales and outlier columns.
#pragma once

#include <algorithm>

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cpu/kernel_table.h"
#include "tessera/kernels/cpu/packed_weights.h"

namespace tessera {

/// Memory of an element type that grows on demand and is reused.
template <class T>
class Scratch {
 public:
  T* reserve(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    if (bytes > memory_.size()) memory_ = AlignedBytes(bytes);
    return data();
  }
  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }

 private:
  AlignedBytes memory_;
};

class CpuInput : public LinearInput {
 public:
  /// Rows for `m` tokens of `width` floats, `float_stride()` apart. Strides are odd multiples of a cache
  /// line, so that the rows of a tile do not compete for the same cache sets.
  void reserve_floats(int64_t m, int64_t width) {
    m_ = m;
    width_ = width;
    floats_.reserve(m * float_stride());
  }
  int64_t float_stride() const { return odd_lines(width_, 16); }
  float* float_row(int64_t t) { return floats_.data() + t * float_stride(); }
  FloatRows floats() const { return {floats_.data(), float_stride()}; }

  /// Room for the codes of `m` tokens.
  void reserve_codes(int64_t m, int64_t k_padded) {
    m_ = m;
    width_ = k_padded;
    rows_.stride = odd_lines(k_padded, 64);
    rows_.codes = codes_.reserve(m * rows_.stride);
    rows_.scale = scale_.reserve(m);
    rows_.zero_point = zero_point_.reserve(m);
    rows_.sum = sum_.reserve(m);
    rows_.pair_sum = pair_sum_.reserve(m * (rows_.stride / kKBlock) * 2);
    rows_.offset = offset_.reserve(m);
  }
  const CodeRows& codes() const { return rows_; }

  /// Room for `outliers` columns that bypass quantization, beside codes or floats.
  void reserve_outliers(int64_t m, int64_t outliers) {
    outliers_ = outliers;
    outlier_values_.reserve(m * outliers);
  }
  float* outlier_row(int64_t t) { return outlier_values_.data() + t * outliers_; }
  FloatRows outliers() const { return {outlier_values_.data(), outliers_}; }

  int64_t m() const { return m_; }
  /// Columns of the prepared rows: floats, or codes with their padding.
  int64_t width() const { return width_; }

 private:
  static int64_t odd_lines(int64_t count, int64_t per_line) {
    return (count + per_line - 1) / per_line * per_line +
           (((count + per_line - 1) / per_line) % 2 ? 0 : per_line);
  }

  int64_t m_ = 0, width_ = 0, outliers_ = 0;
  CodeRows rows_;
  Scratch<float> floats_, scale_, offset_, outlier_values_;
  Scratch<int8_t> codes_;
  Scratch<int16_t> pair_sum_;
  Scratch<int32_t> zero_point_, sum_;
};

}  // namespace tessera
