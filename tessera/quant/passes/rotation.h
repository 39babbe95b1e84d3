// Rotating the residual stream and the value path, offline ("QuaRot", as "QQQ" uses it). Products in float64.
#pragma once

#include "tessera/quant/passes/pass.h"

namespace tessera {

/// A rotation Q [hidden, hidden] (float64) that the family's norm commutes with: any, for RMSNorm; for
/// LayerNorm one that keeps the vector of ones, and with it the mean that is subtracted. ("QuaRot" turns
/// LayerNorm into RMSNorm instead; here the checkpoint keeps its form.) There must be no norm behind the
/// embedding, which no rotation of the embedding commutes with.
at::Tensor stream_rotation(const ModelSpec& spec, uint64_t seed, bool hadamard);

/// The rotation whose first `count` columns are the directions in which the stream varies most, most first;
/// what is orthogonal to them is mixed by a random rotation ("ResQ", which takes such directions
/// of every site). `moments` [hidden, hidden] are second moments of the stream, float64. For RMSNorm alone.
at::Tensor principal_rotation(const at::Tensor& moments, int64_t count, uint64_t seed);

/// Rotates embedding rows, learned positions and lm_head by Q, the final norm's gain folded into lm_head and
/// its bias into lm_head's bias first. Logits stay.
void rotate_outer(OuterWeights& outer, const at::Tensor& rotation);

/// Rotates what a block reads from and adds to the residual stream, the norm gains folded first: for input
/// x Q the block gives (its output for x) Q.
void rotate_block(const ModelSpec& spec, Block& block, const at::Tensor& rotation);

/// Rotates the value channels of every head by head_rotation [head_dim, head_dim] (float64): v_proj rows
/// (and bias), undone in o_proj's columns.
void rotate_value_heads(const ModelSpec& spec, Block& block, const at::Tensor& head_rotation);

}  // namespace tessera
