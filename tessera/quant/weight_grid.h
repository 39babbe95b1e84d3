// The grid of values that a linear's weights may take: choosing it, rounding to it, and making a
// QuantizedLinear of the codes.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>

#include "tessera/quant/pass.h"

namespace tessera {

/// Nearest integer, ties to even, for |x| <= 2^22. Unlike std::nearbyint it vectorizes on every x86-64.
inline float round_to_even(float x) {
  constexpr float kShift = 0x1.8p23f;
  return (x + kShift) - kShift;
}

/// The values step * code of one weight, code an integer in [lo, hi].
struct GridCell {
  float step = 1, lo = 0, hi = 0;

  float code(float weight) const { return round_to_even(std::clamp(weight / step, lo, hi)); }
};

/// The cell of a group: codes -8..7 as far as group_scale * code fits int8.
GridCell grouped_cell(float scale, float group_scale);

/// Per output row, or per row and group, the step between neighbouring weights.
///
///   per row:   weight = scale[n] * q                        int4: q in -7..7, int8: q in -127..127
///   grouped:   weight = scale[n] * (group_scale[n, g] * q)  q in -8..7 as far as the product fits int8
///
/// Codes on the grouped grid are final: the product is the int8 operand itself ("DGQ", phase 2), where QQQ
/// would round once more.
struct WeightGrid {
  WeightScheme scheme;
  at::Tensor scale;        ///< [N] float32, CPU, positive
  at::Tensor group_scale;  ///< [N, K / group_size] float32 integers 1..127, CPU; undefined when per row

  /// The cell of row n and input column k.
  GridCell cell(int64_t n, int64_t k) const;
};

/// What the fit minimizes besides never being worse than the absolute maximum's grid.
enum class Clip {
  kNone,     ///< the largest weight decides ("QQQ", MSE clip off)
  kMse,      ///< sum |error|^2.4, factors 1.00 to 0.21 ("QQQ", MSE clip on)
  kWeighted  ///< sum importance[k] * error^2, the same factors
};

struct GridOptions {
  Clip clip = Clip::kNone;
  /// Grouped grids: search scale[n] and the integer group scales together; false: round them from the
  /// largest weights.
  bool search = true;
};

/// Fits the grid to weight [N, K]. `importance` [K] (mean square of each input) weighs errors; undefined: 1.
WeightGrid fit_grid(const at::Tensor& weight, const WeightScheme& scheme, const GridOptions& options,
                    const at::Tensor& importance = {});

/// Nearest codes, I8 [N, K] on the CPU.
at::Tensor round_to_grid(const WeightGrid& grid, const at::Tensor& weight);

/// Real weights of codes, float32 [N, K] on the CPU.
at::Tensor dequantize(const WeightGrid& grid, const at::Tensor& codes);

/// Rounded weights on the weight's device: round_to_grid and dequantize in one.
at::Tensor fake_quantize_weight(const WeightGrid& grid, const at::Tensor& weight);

/// The integer layer. `bias` may be undefined; `input_scale` is needed for static activation scales.
QuantizedLinear make_quantized_linear(const WeightGrid& grid, const at::Tensor& codes,
                                      const ActivationFormat& activation, const at::Tensor& bias,
                                      float input_scale = 0);

}  // namespace tessera
