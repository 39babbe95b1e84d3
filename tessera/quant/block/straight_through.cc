// The gradient of rounding a row to codes, in closed form.
#include "tessera/quant/block/straight_through.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cassert>

#include "tessera/quant/block/fake_quant.h"

namespace tessera {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// 1 / (how often the row has it) where x equals its row's `extreme` [..., 1], 0 elsewhere.
at::Tensor share_of_extreme(const at::Tensor& x, const at::Tensor& extreme) {
  const at::Tensor hits = (x == extreme).to(at::kFloat);
  return hits / hits.sum({-1}, /*keepdim=*/true);
}

/// d scale / dx [..., K] of the row's scale: it grows with the range of the row, which always holds 0.
at::Tensor scale_gradient(const at::Tensor& x, const ActivationFormat& format) {
  if (format.symmetric) {
    const at::Tensor magnitude = x.abs();
    return share_of_extreme(magnitude, at::amax(magnitude, {-1}, true)) * x.sign() /
           ((1 << (format.bits - 1)) - 1);
  }
  const at::Tensor hi = at::amax(x, {-1}, true), lo = at::amin(x, {-1}, true);
  return (share_of_extreme(x, hi) * (hi > 0) - share_of_extreme(x, lo) * (lo < 0)) / ((1 << format.bits) - 1);
}

class RoundRows : public torch::autograd::Function<RoundRows> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, int64_t bits, bool symmetric) {
    QuantizedRows rows = quantize_rows(x, {static_cast<int>(bits), symmetric, true});
    if (rows.zero_point.defined()) rows.codes.sub_(rows.zero_point);
    ctx->saved_data["bits"] = bits;
    ctx->saved_data["symmetric"] = symmetric;
    ctx->save_for_backward({x, rows.codes, rows.scale});
    return rows.codes * rows.scale;
  }

  /// y = scale * code, code = clamp(round(x / scale)).
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &grad = grads[0], &x = saved[0], &code = saved[1], &scale = saved[2];
    const ActivationFormat format{static_cast<int>(ctx->saved_data["bits"].toInt()),
                                  ctx->saved_data["symmetric"].toBool(), true};
    const at::Tensor ratio = (x / scale).masked_fill_(scale == 0, 0);
    const at::Tensor passed = grad * (ratio.round() == code);
    const at::Tensor to_scale = (grad * code - passed * ratio).sum({-1}, /*keepdim=*/true);
    return {to_scale * scale_gradient(x, format) + passed, {}, {}};
  }
};

}  // namespace

at::Tensor round_rows_straight_through(const at::Tensor& x, const ActivationFormat& format) {
  assert(format.per_token);
  return RoundRows::apply(x, format.bits, format.symmetric);
}

at::Tensor round_straight_through(const at::Tensor& x, const ActivationFormat& format, float static_scale) {
  if (format.weight_only()) return x;
  if (format.per_token && !format.real_zero) return round_rows_straight_through(x, format);
  const double reach = static_cast<double>(static_scale) * ((1 << (format.bits - 1)) - 1);
  const at::Tensor within = format.per_token ? x : x.clamp(-reach, reach);
  return within + (fake_quantize_rows(x.detach(), format, static_scale) - within.detach());
}

}  // namespace tessera
