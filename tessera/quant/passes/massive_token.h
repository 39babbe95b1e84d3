// A block with a massive first token, as large models have them (arXiv 2402.17762). Test code only.
#pragma once

#include "tessera/quant/block/block.h"

namespace tessera {

/// Turns one neuron of the block's gated MLP into a detector of the first token: its product of gate and up
/// becomes `activation` there, and the down projection writes a vector of norm `size` into two channels of
/// the residual stream. Elsewhere the block computes nearly what it did.
///   x [windows, tokens, hidden]: its inputs; all windows begin with the same token.
inline void make_first_token_massive(const ModelSpec& spec, Block& block, const at::Tensor& x,
                                     double activation, double size) {
  at::Tensor inputs;  // of the MLP, [windows, tokens, hidden]
  const LinearFn exact = float_linears(block);
  const LinearFn linear = [&](LinearId id, const at::Tensor& input) {
    if (id == spec.id(kUp)) inputs = input;
    return exact(id, input);
  };
  block_step(spec, block, linear, x);

  // The direction that tells the first token from the others best: 1 there, least squares elsewhere.
  const at::Tensor first = inputs.select(1, 0)[0];
  const at::Tensor others = inputs.slice(1, 1).reshape({-1, inputs.size(2)});
  const at::Tensor moments = at::matmul(others.t(), others) / others.size(0);
  const at::Tensor damped = moments + at::eye(moments.size(0)) * (0.01 * moments.diagonal().mean());
  at::Tensor direction = at::linalg_solve(damped, first);
  direction /= direction.dot(first);

  const int64_t neuron = at::argmin(block.weight[spec.id(kDown)].norm(2, {0})).item<int64_t>();
  const double level = std::sqrt(activation);  // silu(v) v is v^2 for large v
  block.weight[spec.id(kGate)][neuron].copy_(direction * level);
  block.weight[spec.id(kUp)][neuron].copy_(direction * level);
  at::Tensor written = block.weight[spec.id(kDown)].select(1, neuron);
  written.zero_();
  for (const int64_t channel : {7, 50}) written[channel] = size / activation / std::sqrt(2.0);
}

}  // namespace tessera
