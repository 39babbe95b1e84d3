// The grid of values that a linear's weights may take: choosing it, rounding to it, and making a
// QuantizedLinear of the codes.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>

#include "tessera/quant/grid/grid_loss.h"
#include "tessera/quant/recipe/scheme.h"

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

/// Per output, or per output and group, the step between neighbouring weights.
///
///   per output:  weight = scale[n] * q, |q| < 2^(bits - 1), such as -7..7;
///                with a zero point 0 <= q + zero[n] < 2^bits
///   grouped:     weight = scale[n] * (group_scale[n, g] * q), 0 <= q + zero[n, g] <= 15
///                as far as the product is within +-127
///
/// Codes on the grouped grid are final: the product is the int8 operand itself ("DGQ", phase 2), where QQQ
/// would round once more.
struct WeightGrid {
  WeightScheme scheme;
  at::Tensor scale;        ///< [N] float32, CPU, positive
  at::Tensor group_scale;  ///< [N, K / group_size] float32 integers 1..127, CPU; undefined when per output
  /// [N, K / group_size], or [N, 1] when per output: float32 integers 0..2^bits - 1, CPU. Undefined when
  /// symmetric; groups then have zero point 8.
  at::Tensor zero;

  /// [N, groups], on the CPU; one group where there is one scale an output.
  GridCells cells() const;
};

/// The cells of a grid for loops over single weights.
class CellTable {
 public:
  explicit CellTable(const WeightGrid& grid);

  GridCell cell(int64_t n, int64_t group) const {
    const int64_t i = n * groups_ + group;
    return {step_[i], lo_[i], hi_[i]};
  }
  int64_t groups() const { return groups_; }

 private:
  GridCells cells_;
  const float *step_, *lo_, *hi_;  ///< [N, groups]
  int64_t groups_;
};

struct GridOptions {
  /// What clipping a group's largest weights minimizes; the search below minimizes the same, or squared
  /// errors where nothing is clipped.
  Clip clip = Clip::kNone;
  /// Grouped grids: search scale[n], which decides how the groups' scales round to integers; false: it
  /// follows from the output's largest weight.
  bool search = true;
  /// Clip::kOutput: this many candidates of scale[n] are judged by the error of the whole output, the others
  /// by the sum of their groups' errors only.
  int64_t rerank = 8;
  /// Significant bits of scale[n], at most 24. Other tools store float16 scales, of 11 bits: below 11, group
  /// scales get the bits that are left for them in the product with scale[n]. 0: 11 where an output has
  /// one scale, 7 in groups, so that float16 holds every scale.
  int scale_bits = 24;
};

/// Fits the grid to weight [N, K]. Undefined members of `moments` weigh all inputs alike.
WeightGrid fit_grid(const at::Tensor& weight, const WeightScheme& scheme, const GridOptions& options,
                    const InputMoments& moments = {});

/// Grouped quantization that fit_grid is compared with; no integer kernel runs it.
enum class GroupScales {
  kFloat,   ///< every group keeps its own float scale: plain group-wise quantization ("DGQ", phase 1 alone)
  kWrapped  ///< the float scales round to integers under codes that stay, and products beyond int8 wrap
            ///< around: dual-grained rounding to nearest ("DGQ", table 1)
};

/// What quantization in groups makes of weight [N, K], each group clipped by itself; on the CPU.
at::Tensor round_group_wise(const at::Tensor& weight, const WeightScheme& scheme, GroupScales scales,
                            Clip clip, const InputMoments& moments = {});

/// Bytes that fit_grid holds at its peak for K inputs beside the weight and the grid.
size_t fit_bytes(int64_t k);

/// Nearest codes relative to the zero point, I8 [N, K] on the CPU.
at::Tensor round_to_grid(const WeightGrid& grid, const at::Tensor& weight);

/// Real weights of codes, float32 [N, K] on their device.
at::Tensor dequantize(const WeightGrid& grid, const at::Tensor& codes);

/// Rounded weights on the weight's device: round_to_grid and dequantize in one.
at::Tensor fake_quantize_weight(const WeightGrid& grid, const at::Tensor& weight);

/// The grid of a linear with integer operands, as make_quantized_linear takes it. Weights of 5 to 7 bits
/// count as 8-bit ones, an output's 4-bit zero point as that of one group.
WeightGrid grid_of(const QuantizedLinear& linear);
/// Its codes relative to the zero point, I8 [N, K] on the CPU.
at::Tensor codes_of(const QuantizedLinear& linear);
/// Gives the linear other codes, as round_to_grid gives them for grid_of(linear).
void replace_codes(QuantizedLinear& linear, const at::Tensor& codes);

/// The integer layer. `bias` may be undefined; `input_scale` is needed for static activation scales.
QuantizedLinear make_quantized_linear(const WeightGrid& grid, const at::Tensor& codes,
                                      const ActivationFormat& activation, const at::Tensor& bias,
                                      float input_scale = 0);

}  // namespace tessera
