// Rotating the residual stream and the value path, offline ("QuaRot", as "QQQ" uses it). Products in float64.
#pragma once

#include "tessera/quant/pass.h"

namespace tessera {

/// Rotates embedding rows and lm_head by Q [hidden, hidden] (float64), the final norm's gain folded into
/// lm_head first. Logits stay. Throws Error for families whose norm subtracts the mean.
void rotate_outer(const ModelSpec& spec, OuterWeights& outer, const at::Tensor& rotation);

/// Rotates what a block reads from and adds to the residual stream, the norm gains folded first: for input
/// x Q the block gives (its output for x) Q.
void rotate_block(const ModelSpec& spec, Block& block, const at::Tensor& rotation);

/// Rotates the value channels of every head by head_rotation [head_dim, head_dim] (float64): v_proj rows
/// (and bias), undone in o_proj's columns.
void rotate_value_heads(const ModelSpec& spec, Block& block, const at::Tensor& head_rotation);

}  // namespace tessera
