// What searches compare, and the calibration text that they look at.
#pragma once

#include "tessera/quant/block/block.h"

namespace tessera {

/// Windows of `tokens` tokens that hold about `wanted` together.
int64_t sample_count(int64_t windows, int64_t tokens, int64_t wanted);
/// Whole windows of x [windows, tokens, hidden] that hold about `wanted` tokens, evenly spaced.
at::Tensor sample_windows(const at::Tensor& x, int64_t wanted);

/// The output of everything that the site's linears feed before the next linear, for the site's input x:
/// behind attention, behind the MLP's activation, both beside each other, or of the linear itself.
at::Tensor site_output(const ModelSpec& spec, const Block& block, const Site& site, const LinearFn& linear,
                       const at::Tensor& x);

/// Inputs of a site [windows, tokens, K] and what the float site makes of them.
struct SiteSample {
  at::Tensor x, output;
};

/// Every second window of x to search with, the others to judge what was found; the same where there is one.
struct SplitSample {
  SiteSample seen, unseen;
};
SplitSample split_sample(const ModelSpec& spec, const Block& block, const Site& site, const at::Tensor& x);

}  // namespace tessera
