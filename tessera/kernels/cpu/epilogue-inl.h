// What follows a tile of sums: scales, outlier columns, bias, residual stream. Included like row_ops-inl.h,
// behind float_matmul-inl.h, whose register tiles multiply the outlier columns.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

/// y from the scaled sums out [m][kPanel], which the outliers are added to.
void finish(const Epilogue& e, int64_t m, float* out, float* y, int64_t ldy) {
  if (e.outliers > 0) {
    float_tiles(e.outlier_input, m, StridedRows<Half>{e.outlier_weight, kPanel}, e.outliers, out, kPanel);
  }
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t first = 0; first < e.columns; first += kLanes) {
      Lanes value = Lanes::load(out + t * kPanel + first);
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

/// out [kPanel] += offset * (what the weights of each row sum to): the real zero point's part.
void add_offset(const Epilogue& e, float offset, float* out) {
  for (int64_t n = 0; n < kPanel; n += kLanes) {
    const Lanes sum = Lanes::load(e.scale + n) * Lanes::from_int(e.row_sum + n);
    (Lanes::load(out + n) + Lanes::set(offset) * sum).store(out + n);
  }
}

void integer_epilogue(const Epilogue& e, const CodeRows& x, int64_t m, int32_t* acc, float* y, int64_t ldy) {
  alignas(64) float out[kTokenBlock * kPanel];
  for (int64_t t = 0; t < m; ++t) {
    int32_t* row = acc + t * kPanel;
    if (e.row_sum && !e.real_zero) {
      for (int64_t n = 0; n < kPanel; ++n) row[n] -= x.zero_point[t] * e.row_sum[n];
    }
    const Lanes token = Lanes::set(x.scale[t]);
    for (int64_t n = 0; n < kPanel; n += kLanes) {
      (Lanes::from_int(row + n) * Lanes::load(e.scale + n) * token).store(out + t * kPanel + n);
    }
    if (e.real_zero) add_offset(e, x.offset[t], out + t * kPanel);
  }
  finish(e, m, out, y, ldy);
}

void float_epilogue(const Epilogue& e, int64_t m, float* sums, float* y, int64_t ldy) {
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t n = 0; n < kPanel; n += kLanes) {
      float* p = sums + t * kPanel + n;
      (Lanes::load(p) * Lanes::load(e.scale + n)).store(p);
    }
  }
  finish(e, m, sums, y, ldy);
}

}  // namespace
}  // namespace tessera
