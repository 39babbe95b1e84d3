// Rotary positions and causal grouped-query attention with bounded memory.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tessera/arch/rope.h"
#include "tessera/quant/block/block.h"
#include "tessera/quant/block/fake_quant.h"

namespace tessera {
namespace {

struct RopeTable {
  at::Tensor cos, sin;  ///< [T, head_dim]; sin carries the sign of the rotated half
};

RopeTable rope_table(const ModelSpec& spec, int64_t tokens, const at::Device& device) {
  const RopeAngles angles = rope_angles(spec.rope, spec.head_dim, tokens);
  const at::Tensor cos = at::tensor(angles.cos).view({tokens, -1}),
                   sin = at::tensor(angles.sin).view({tokens, -1});
  return {at::cat({cos, cos}, -1).to(device), at::cat({-sin, sin}, -1).to(device)};
}

/// x [B, T, heads * d] -> [B, heads, T, d].
at::Tensor split_heads(const ModelSpec& spec, const at::Tensor& x) {
  const int64_t d = spec.head_dim;
  return x.view({x.size(0), x.size(1), x.size(2) / d, d}).transpose(1, 2);
}

/// Heads [B, heads, T, d] of q or k, normalized and rotated where the family does so.
at::Tensor place_heads(const ModelSpec& spec, const Block& block, NormId norm, const RopeTable& rope,
                       at::Tensor heads) {
  if (spec.has(norm)) heads = norm_forward(spec, block, norm, heads);
  if (spec.positions != Positions::kRope) return heads;
  const at::Tensor swapped = at::roll(heads, spec.head_dim / 2, -1);
  return (heads * rope.cos).addcmul_(swapped, rope.sin);
}

/// Keys or values [..., d] as a cache of `format` gives them back.
at::Tensor cached(const at::Tensor& heads, KvFormat format) {
  if (!is_quantized(format)) return heads;
  return fake_quantize_rows(heads, {.bits = kv_bits(format), .symmetric = false});
}

/// 0 where query row may see key column, -inf elsewhere; [queries, keys] for queries that start at `first`.
at::Tensor causal_mask(int64_t first, int64_t queries, int64_t keys, int64_t window,
                       const at::TensorOptions& options) {
  const at::Tensor row = at::arange(first, first + queries, options).unsqueeze(1);
  const at::Tensor column = at::arange(keys, options);
  at::Tensor hidden = column > row;
  if (window > 0) hidden = hidden.logical_or(column <= row - window);
  return at::zeros({queries, keys}, options).masked_fill_(hidden, -std::numeric_limits<float>::infinity());
}

/// What every head adds to the scores of neighbouring query rows: the mask and, with ALiBi, a slope of its
/// own; [kv_heads or 1, shared * rows, keys].
at::Tensor score_offsets(const ModelSpec& spec, int64_t window, int64_t first, int64_t rows, int64_t keys,
                         const at::TensorOptions& options) {
  const int64_t shared = spec.n_heads / spec.n_kv_heads;
  const at::Tensor mask = causal_mask(first, rows, keys, window, options);
  if (spec.positions != Positions::kAlibi) return mask.repeat({shared, 1}).unsqueeze(0);
  const at::Tensor slopes = at::tensor(spec.alibi_slopes).to(options).view({spec.n_heads, 1, 1});
  const at::Tensor distance =
      at::arange(keys, options) - at::arange(first, first + rows, options).unsqueeze(1);
  return (slopes * distance + mask).view({spec.n_kv_heads, shared * rows, keys});
}

/// Keys that none of the query rows in hand may see are never multiplied. One window: q [heads, T, d], k and
/// v [kv_heads, T, d] -> [heads, T, d].
at::Tensor attend(const ModelSpec& spec, int64_t window, const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v) {
  const int64_t tokens = q.size(1), d = spec.head_dim, kv_heads = k.size(0), shared = q.size(0) / kv_heads;
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  at::Tensor out = at::empty_like(q);
  const int64_t at_once = q.is_cpu() ? kQueryRows : kGpuQueryRows;
  for (int64_t first = 0; first < tokens; first += at_once) {
    const int64_t rows = std::min(at_once, tokens - first), keys = first + rows;
    const at::Tensor queries = q.narrow(1, first, rows).reshape({kv_heads, shared * rows, d});
    const at::Tensor offsets = score_offsets(spec, window, first, rows, keys, q.options());
    const at::Tensor scores = at::baddbmm(offsets, queries, k.narrow(1, 0, keys).transpose(1, 2), 1, scale);
    const at::Tensor weights = at::softmax(scores, -1);
    out.narrow(1, first, rows).copy_(at::bmm(weights, v.narrow(1, 0, keys)).view({q.size(0), rows, d}));
  }
  return out;
}

}  // namespace

at::Tensor attention_core(const ModelSpec& spec, const Block& block, const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v) {
  RopeTable rope;
  if (spec.positions == Positions::kRope) rope = rope_table(spec, q.size(1), q.device());
  const at::Tensor queries = place_heads(spec, block, kQueryNorm, rope, split_heads(spec, q)),
                   placed = place_heads(spec, block, kKeyNorm, rope, split_heads(spec, k)),
                   keys = cached(placed, block.kv_format),
                   values = cached(split_heads(spec, v), block.kv_format);
  at::Tensor out = at::empty(q.sizes(), q.options());
  for (int64_t b = 0; b < q.size(0); ++b) {
    const at::Tensor attended = attend(spec, block.window, queries[b], keys[b], values[b].contiguous());
    out[b].copy_(attended.transpose(0, 1).reshape({q.size(1), q.size(2)}));
  }
  return out;
}

}  // namespace tessera
