// What follows a tile of sums: scales, outlier columns, bias, residual stream. Included like row_ops-inl.h,
// behind float_matmul-inl.h, whose register tiles multiply the outlier columns.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

/// y from scaled(t, n): the scaled sums of outputs n .. n + kLanes - 1 of token t.
template <class Scaled>
void store_outputs(const Epilogue& e, int64_t m, float* y, int64_t ldy, const Scaled& scaled) {
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t first = 0; first < e.columns; first += kLanes) {
      Lanes value = scaled(t, first);
      if (e.bias) value = value + Lanes::load(e.bias + first);
      float* to = y + t * ldy + first;
      const auto put = [&](auto... some) {
        (e.accumulate ? Lanes::load(to, some...) + value : value).store(to, some...);
      };
      if (e.columns - first >= kLanes) {
        put();
      } else {
        put(Some(e.columns - first));
      }
    }
  }
}

/// The same behind what is added to the scaled sums out [m][kPanel]: outliers.
void store_with_outliers(const Epilogue& e, int64_t m, float* out, float* y, int64_t ldy) {
  if (e.outliers > 0) {
    float_tiles(e.outlier_input, m, StridedRows<Half>{e.outlier_weight, kPanel}, e.outliers, out, kPanel);
  }
  store_outputs(e, m, y, ldy, [&](int64_t t, int64_t n) { return Lanes::load(out + t * kPanel + n); });
}

/// out [kPanel] += offset * (what the weights of each row sum to): the real zero point's part.
void add_offset(const Epilogue& e, float offset, float* out) {
  for (int64_t n = 0; n < kPanel; n += kLanes) {
    const Lanes sum = Lanes::load(e.scale + n) * Lanes::from_int(e.row_sum + n);
    (Lanes::load(out + n) + Lanes::set(offset) * sum).store(out + n);
  }
}

void integer_epilogue(const Epilogue& e, const CodeRows& x, int64_t m, int32_t* acc, float* y, int64_t ldy) {
  if (e.row_sum && !e.real_zero) {
    for (int64_t t = 0; t < m; ++t) {
      int32_t* row = acc + t * kPanel;
      for (int64_t n = 0; n < kPanel; ++n) row[n] -= x.zero_point[t] * e.row_sum[n];
    }
  }
  const auto scaled = [&](int64_t t, int64_t n) {
    return Lanes::from_int(acc + t * kPanel + n) * Lanes::load(e.scale + n) * Lanes::set(x.scale[t]);
  };
  if (e.outliers == 0 && !e.real_zero) return store_outputs(e, m, y, ldy, scaled);
  alignas(64) float out[kTokenBlock * kPanel];
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t n = 0; n < kPanel; n += kLanes) scaled(t, n).store(out + t * kPanel + n);
    if (e.real_zero) add_offset(e, x.offset[t], out + t * kPanel);
  }
  store_with_outliers(e, m, out, y, ldy);
}

void float_epilogue(const Epilogue& e, int64_t m, float* sums, float* y, int64_t ldy) {
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t n = 0; n < kPanel; n += kLanes) {
      float* p = sums + t * kPanel + n;
      (Lanes::load(p) * Lanes::load(e.scale + n)).store(p);
    }
  }
  store_with_outliers(e, m, sums, y, ldy);
}

}  // namespace
}  // namespace tessera
