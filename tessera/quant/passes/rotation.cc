// Rotations folded into weights.
#include "tessera/quant/passes/rotation.h"

#include <algorithm>
#include <cassert>

#include "tessera/quant/block/fold.h"
#include "tessera/quant/block/hadamard.h"

namespace tessera {
namespace {

at::Tensor times(const at::Tensor& a, const at::Tensor& b) {
  return at::matmul(a.to(at::kDouble), b.to(at::kDouble)).to(at::kFloat);
}

/// The same for a table with as many rows as the vocabulary, some of them at a time.
at::Tensor table_times(const at::Tensor& table, const at::Tensor& b) {
  constexpr int64_t kRows = 4096;
  at::Tensor product = at::empty({table.size(0), b.size(1)}, table.options());
  for (int64_t first = 0; first < table.size(0); first += kRows) {
    const int64_t rows = std::min(kRows, table.size(0) - first);
    product.narrow(0, first, rows).copy_(times(table.narrow(0, first, rows), b));
  }
  return product;
}

}  // namespace

at::Tensor stream_rotation(const ModelSpec& spec, uint64_t seed, bool hadamard) {
  assert(spec.embedding_norm.empty());
  return spec.norm == NormKind::kLayer ? mean_keeping_rotation(spec.hidden_size, seed)
                                       : random_rotation(spec.hidden_size, seed, hadamard);
}

at::Tensor principal_rotation(const at::Tensor& moments, int64_t count, uint64_t seed) {
  const int64_t width = moments.size(0);
  // Eigenvalues ascend.
  const at::Tensor directions = std::get<1>(at::linalg_eigh(moments)).flip({1});
  const at::Tensor rest = directions.narrow(1, count, width - count);
  const at::Tensor mixed =
      at::matmul(rest, random_rotation(width - count, seed, /*hadamard=*/true).to(rest.device()));
  return at::cat({directions.narrow(1, 0, count), mixed}, 1);
}

void rotate_outer(OuterWeights& outer, const at::Tensor& rotation) {
  if (outer.final_bias.defined()) {
    outer.lm_head_bias = table_times(outer.lm_head, outer.final_bias.unsqueeze(1)).squeeze(1);
    outer.final_bias = at::zeros_like(outer.final_bias);
  }
  outer.lm_head = table_times(outer.lm_head, outer.final_gain.unsqueeze(1) * rotation);
  outer.final_gain = at::ones_like(outer.final_gain);
  outer.embedding = table_times(outer.embedding, rotation);
  if (outer.position_embedding.defined()) {
    outer.position_embedding = table_times(outer.position_embedding, rotation);
  }
}

void rotate_block(const ModelSpec& spec, Block& block, const at::Tensor& rotation) {
  for (const Site& site : spec.sites) {
    if (site.producer == Site::Producer::kNorm) fold_norm_gain(spec, block, site.norm);
  }
  for (LinearId id : spec.linear_ids()) {
    const bool adds_to_stream = spec.role(id) == kO || spec.role(id) == kDown;
    at::Tensor& weight = block.weight[id];
    weight = adds_to_stream ? times(rotation.t(), weight) : times(weight, rotation);
    at::Tensor& bias = block.bias[id];
    if (adds_to_stream && bias.defined()) bias = times(bias.unsqueeze(0), rotation).squeeze(0);
  }
}

void rotate_value_heads(const ModelSpec& spec, Block& block, const at::Tensor& head_rotation) {
  const int64_t d = spec.head_dim;
  at::Tensor &v = block.weight[spec.id(kV)], &bias = block.bias[spec.id(kV)], &o = block.weight[spec.id(kO)];
  v = times(head_rotation.t(), v.view({-1, d, v.size(1)})).reshape(v.sizes());
  if (bias.defined()) bias = times(bias.view({-1, d}), head_rotation).reshape({-1});
  o = times(o.view({o.size(0), -1, d}), head_rotation).reshape(o.sizes());
}

}  // namespace tessera
