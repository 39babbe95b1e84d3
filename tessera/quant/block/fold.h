// Exact rewrites of a block's float parameters: what leaves one place enters another, the block's function
// stays.
#pragma once

#include "tessera/quant/block/block.h"

namespace tessera {

/// True when a positive scale of the site's input channels can be folded into its producer: always into norms
/// and into the value path, into the up projection where nothing nonlinear but ReLU follows it.
bool can_fold_scale(const ModelSpec& spec, const Site& site);

/// Divides the site's input channels by scale [K] and multiplies the columns of its readers. Where query
/// heads share value heads, `scale` must be equal for the channels that one output of v_proj feeds
/// (share_over_query_heads).
void fold_scale(const ModelSpec& spec, Block& block, const Site& site, const at::Tensor& scale);

/// The maximum of values [K] over the channels that share an output of the producer, at all of them: the
/// query heads of one key-value head; otherwise `values` itself.
at::Tensor share_over_query_heads(const ModelSpec& spec, const Site& site, const at::Tensor& values);

/// Moves the gain of norm `id` (and its bias) into the linears that read it; the gain becomes 1.
void fold_norm_gain(const ModelSpec& spec, Block& block, NormId id);

}  // namespace tessera
