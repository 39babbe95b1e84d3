// Integer products in plain C++; the compiler vectorises the loops over outputs with what the baseline
// processor has. Only for generic/kernels.cc.
#pragma once

#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

/// w [4][kPanel]: w8 of the inputs k .. k + 3 of a panel.
void expand_quad(const PackedPanel& panel, int64_t k, int16_t (&w)[4][kPanel]) {
  const uint8_t* codes = panel.codes;
  const bool grouped = panel.layout == PackedLayout::kNibbleGrouped;
  const uint8_t* group = grouped ? panel.groups + k / panel.group_size * 2 * kPanel : nullptr;
  for (int64_t n = 0; n < kPanel; ++n) {
    for (int64_t i = 0; i < 4; ++i) {
      int value;
      if (panel.layout == PackedLayout::kByte) {
        value = codes[byte_offset(n, k + i)] - 128;
      } else {
        const int nibble = codes[nibble_offset(n, k + i)] >> (in_high_nibble(n) ? 4 : 0) & 15;
        value = grouped ? group[n] * (nibble - group[kPanel + n]) : nibble - 8;
      }
      w[i][n] = static_cast<int16_t>(value);
    }
  }
}

void integer_panel(const PackedPanel& panel, const CodeRows& x, int64_t m, int32_t* acc) {
  __builtin_memset(acc, 0, sizeof(int32_t) * static_cast<size_t>(m * kPanel));
  for (int64_t k = 0; k < panel.k_padded; k += 4) {
    int16_t w[4][kPanel];
    expand_quad(panel, k, w);
    for (int64_t t = 0; t < m; ++t) {
      const int8_t* codes = x.codes + t * x.stride + k;
      int32_t* row = acc + t * kPanel;
      for (int64_t n = 0; n < kPanel; ++n) {
        row[n] += codes[0] * w[0][n] + codes[1] * w[1][n] + codes[2] * w[2][n] + codes[3] * w[3][n];
      }
    }
  }
}

void sum_codes(int64_t k_padded, const CodeRows& x) {
  int32_t sum = 0;
  for (int64_t k = 0; k < k_padded; ++k) sum += x.codes[k];
  x.sum[0] = sum;
}

int64_t integer_peak(int64_t) {
  return 0;
}

}  // namespace
}  // namespace tessera
