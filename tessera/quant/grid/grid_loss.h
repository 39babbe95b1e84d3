// What the weights of a linear lose on candidate grids: the measures that the fit of a grid minimizes.
#pragma once

#include <ATen/ATen.h>

namespace tessera {

enum class Clip {
  kNone,      ///< the largest weight decides ("QQQ", MSE clip off)
  kMse,       ///< sum |error|^2.4 ("QQQ", MSE clip on)
  kWeighted,  ///< sum importance[k] * error[k]^2
  kOutput     ///< the error of the linear's output, through the second moments of its input ("DGQ")
};

/// What is known of the input x of a linear, or of x as it will be quantized, xh. On any device.
struct InputMoments {
  at::Tensor importance;  ///< [K]: mean of x^2; undefined: 1
  at::Tensor hessian;     ///< [K, K]: 2 E[x x'], or 2 E[xh xh'] beside `cross`; needed for kOutput
  at::Tensor cross;       ///< [K, K]: 2 E[xh (xh - x)']; undefined: the output error is that of float inputs
};

/// One cell an output and group of inputs: values step * code, code in [lo, hi]. Float32 [R, G], for R
/// outputs, on the weight's device; or [C, R, G], of C candidates, where lo and hi may be [R, G] for all.
struct GridCells {
  at::Tensor step, lo, hi;

  GridCells contiguous() const {
    return {step.contiguous(), lo.expand_as(step).contiguous(), hi.expand_as(step).contiguous()};
  }
};

/// The nearest codes to weight [R, K] in cells [R, G], float32 on its device. By tensor operators, as GPUs
/// want it; the CPU has loops that read every weight once.
at::Tensor nearest_codes(const at::Tensor& weight, const GridCells& cells);

/// Losses of R outputs, up to a constant for each where `cross` is known.
class GridLoss {
 public:
  /// weight [R, K]: float32, contiguous. Losses lie on its device.
  GridLoss(Clip clip, const at::Tensor& weight, int64_t groups, const InputMoments& moments);

  /// [C, R, G]: what each group's errors cost by themselves.
  at::Tensor by_group(const GridCells& candidates) const;
  /// [C, R]: what they cost together.
  at::Tensor by_row(const GridCells& candidates) const;
  /// True when an output's loss is more than the sum of its groups' losses.
  bool groups_interact() const { return clip_ == Clip::kOutput && groups_ > 1; }
  /// Candidates that are judged together where there are many.
  int64_t candidates_at_once() const;

 private:
  at::Tensor separable_losses(const GridCells& candidates) const;
  at::Tensor errors(const GridCells& candidates) const;
  at::Tensor output_loss(const at::Tensor& error, const at::Tensor& shift, int64_t begin,
                         int64_t count) const;

  Clip clip_;
  at::Tensor weight_, importance_, hessian_;
  int64_t groups_, group_size_;
  /// weight * cross', [R, K]: of the whole output, and of each group alone. Undefined without `cross`.
  at::Tensor row_shift_, group_shift_;
};

}  // namespace tessera
