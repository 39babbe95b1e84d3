// Folding of channel scales and norm gains.
#include "tessera/quant/block/fold.h"

#include <cassert>

#include "tessera/base/error.h"

namespace tessera {
namespace {

/// scale [heads * d] of the query heads -> [kv_heads * d] of the outputs that produce them.
at::Tensor producer_outputs(const ModelSpec& spec, const Site& site, const at::Tensor& scale) {
  if (!spec.reads_attention(site) || spec.n_heads == spec.n_kv_heads) return scale;
  return scale.view({spec.n_kv_heads, spec.n_heads / spec.n_kv_heads, spec.head_dim})
      .select(1, 0)
      .reshape({-1});
}

void expect_natural_channels(const Block& block, const std::vector<LinearId>& readers) {
  for (LinearId id : readers) {
    if (block.map[id].identity()) continue;
    throw Error("smoothing and rotation come before reassembled channels; put reassemble behind them");
  }
}

}  // namespace

bool can_fold_scale(const ModelSpec& spec, const Site& site) {
  return !spec.reads_mlp(site) || spec.gated() || spec.activation == Activation::kRelu;
}

void fold_scale(const ModelSpec& spec, Block& block, const Site& site, const at::Tensor& scale) {
  assert(can_fold_scale(spec, site));
  expect_natural_channels(block, site.readers);
  if (site.producer == Site::Producer::kNorm) {
    block.gain[site.norm] = block.gain[site.norm] / scale;
    at::Tensor& bias = block.norm_bias[site.norm];
    if (bias.defined()) bias = bias / scale;
  } else {
    const at::Tensor outputs = producer_outputs(spec, site, scale);
    block.weight[site.linear] = block.weight[site.linear] / outputs.unsqueeze(1);
    at::Tensor& bias = block.bias[site.linear];
    if (bias.defined()) bias = bias / outputs;
  }
  for (LinearId id : site.readers) block.weight[id] = block.weight[id] * scale;
}

at::Tensor share_over_query_heads(const ModelSpec& spec, const Site& site, const at::Tensor& values) {
  if (!spec.reads_attention(site)) return values;
  const at::Tensor heads = values.view({spec.n_kv_heads, -1, spec.head_dim});
  return at::amax(heads, {1}, /*keepdim=*/true).expand_as(heads).reshape({-1});
}

void fold_norm_gain(const ModelSpec& spec, Block& block, NormId id) {
  const at::Tensor gain = block.gain[id].to(at::kDouble);
  for (const Site& site : spec.sites) {
    if (site.producer != Site::Producer::kNorm || site.norm != id) continue;
    expect_natural_channels(block, site.readers);
    for (LinearId reader : site.readers) {
      const at::Tensor weight = block.weight[reader].to(at::kDouble);
      if (block.norm_bias[id].defined()) {
        const at::Tensor shift = at::mv(weight, block.norm_bias[id].to(at::kDouble));
        at::Tensor& bias = block.bias[reader];
        bias = (bias.defined() ? bias.to(at::kDouble) + shift : shift).to(at::kFloat);
      }
      block.weight[reader] = (weight * gain).to(at::kFloat);
    }
  }
  block.gain[id] = at::ones_like(block.gain[id]);
  if (block.norm_bias[id].defined()) block.norm_bias[id] = at::zeros_like(block.norm_bias[id]);
}

}  // namespace tessera
