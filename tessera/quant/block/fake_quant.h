// The integer arithmetic of format/reference.h simulated with libtorch tensors: the same codes, the same
// accumulators.
#pragma once

#include <ATen/ATen.h>

#include "tessera/format/quantized_linear.h"
#include "tessera/quant/block/block.h"

namespace tessera {

/// Codes of activation rows and their scales, as format/reference.h defines them.
struct QuantizedRows {
  at::Tensor codes;       ///< float tensor of integers, [..., K]
  at::Tensor scale;       ///< [..., 1]
  at::Tensor zero_point;  ///< [..., 1], float tensor of integers; undefined when symmetric
  at::Tensor offset;      ///< [..., 1], of real zero points; undefined otherwise
};

/// x [..., K] -> codes. Bit for bit those of quantize_token. Not for weight-only formats.
QuantizedRows quantize_rows(const at::Tensor& x, const ActivationFormat& format, float static_scale = 0);
/// scale * (codes - zero_point) + offset: what the rows have become; x itself in weight-only formats.
at::Tensor fake_quantize_rows(const at::Tensor& x, const ActivationFormat& format, float static_scale = 0);

/// A QuantizedLinear with its int8 operand as a float tensor, ready for repeated use.
class FakeQuantLinear {
 public:
  FakeQuantLinear(const QuantizedLinear& linear, const at::Device& device);
  /// y [..., N] of float input x [..., K_in].
  at::Tensor forward(const at::Tensor& x) const;
  /// int32 accumulators [..., N] (as int64 tensor), exact. Not for weight-only layers.
  at::Tensor accumulators(const at::Tensor& x) const;
  /// scale * w8, [N, K].
  at::Tensor weight() const;

  /// What the product sees of float input x [..., K_in]: [..., K]. Gradients pass (straight_through.h).
  at::Tensor rounded_input(const at::Tensor& x) const;
  /// forward(x), `rounded` being its rounded_input, with `weight` [N, K] in place of its own; differentiable.
  at::Tensor product(const at::Tensor& x, const at::Tensor& rounded, const at::Tensor& weight) const;
  /// The same with its own codes, and `scale` and `bias` [N] in place of its own.
  at::Tensor product(const at::Tensor& x, const at::Tensor& rounded, const at::Tensor& scale,
                     const at::Tensor& bias) const;
  const at::Tensor& scale() const { return scale_; }  ///< [N]
  const at::Tensor& bias() const { return bias_; }    ///< [N]; undefined where there is none

 private:
  /// y, with what outliers of x and `bias` add to it.
  at::Tensor completed(at::Tensor y, const at::Tensor& x, const at::Tensor& bias) const;
  /// Codes of x' [..., K].
  QuantizedRows quantize(const at::Tensor& mapped) const;

  ActivationFormat activation_;
  float input_scale_ = 0;  ///< static activation scale
  ChannelMap map_;
  at::Tensor w8_, scale_, row_sum_, bias_;
  at::Tensor outlier_index_, outlier_weight_;  ///< int64 [F], float [N, F]; undefined without outliers
};

/// Linears that see `rounded(id, x)`, which is called once for all linears that share an input x, as
/// `product(id, x, rounded)`.
LinearFn with_shared_inputs(
    std::function<at::Tensor(LinearId, const at::Tensor&)> rounded,
    std::function<at::Tensor(LinearId, const at::Tensor&, const at::Tensor&)> product);

/// Linears of a block that is fully quantized.
LinearFn fake_quant_linears(const PerLinear<std::optional<QuantizedLinear>>& quantized,
                            const at::Device& device);

}  // namespace tessera
