// Sums and figures over tokens that no single token decides. A few tokens, most often the first, can carry
// nearly all energy of the residual stream (massive activations, arXiv 2402.17762). Whatever is fitted to
// activations looks at them through these weights.
#pragma once

#include <ATen/ATen.h>

namespace tessera {

/// What each token of x [..., K] counts in a sum of squares, [..., 1] in (0, 1]: in full up to eight times
/// the median mean square, and no more than that above.
at::Tensor token_weights(const at::Tensor& x);

/// x [..., K] with every token multiplied by the root of its weight.
at::Tensor weighted_tokens(const at::Tensor& x);

/// [K]: channel maxima of |x| [..., K] over the weighted tokens. Where every token has a scale of its own
/// these channels cost the others their precision, those of massive tokens alone do not.
at::Tensor typical_absmax(const at::Tensor& x);

/// Mean over tokens and channels of the squared error of `output` [..., N], weighted by
/// token_weights(reference): a scalar that gradients of `output` pass through.
at::Tensor weighted_error(const at::Tensor& output, const at::Tensor& reference);

/// ||output - reference|| / ||reference|| of every token, [...], for [..., N] each. Reports show the median.
at::Tensor token_errors(const at::Tensor& output, const at::Tensor& reference);

}  // namespace tessera
