// Rows of fused tensors.
#include "tessera/arch/linear_tensors.h"

#include <cstring>

namespace tessera {
namespace {

/// The rows of `linear` out of `source`, the whole tensor with `source.shape[0]` rows.
TensorView rows_of(const LinearSpec& linear, TensorView source) {
  const FusedRows& fused = linear.fused;
  if (fused.name.empty()) return source;
  const int64_t row_bytes = static_cast<int64_t>(source.bytes()) / source.shape[0];
  const std::byte* from = source.data + fused.first * row_bytes;
  Shape shape = source.shape;
  shape[0] = linear.n;
  if (fused.run == linear.n) return {source.dtype, shape, from, source.owner};

  Tensor gathered(source.dtype, shape);
  const auto run_bytes = static_cast<size_t>(fused.run * row_bytes);
  for (std::byte* to = gathered.data(); to < gathered.data() + gathered.bytes(); to += run_bytes) {
    std::memcpy(to, from, run_bytes);
    from += fused.stride * row_bytes;
  }
  release_pages(source);
  return share(std::move(gathered));
}

}  // namespace

void fuse_query_key_value(ModelSpec& spec, const std::string& name) {
  const int64_t d = spec.head_dim, queries = spec.n_heads / spec.n_kv_heads * d, stride = queries + 2 * d;
  const int64_t rows = spec.n_kv_heads * stride;
  spec.linear(kQ).fused = {.name = name, .rows = rows, .first = 0, .run = queries, .stride = stride};
  spec.linear(kK).fused = {.name = name, .rows = rows, .first = queries, .run = d, .stride = stride};
  spec.linear(kV).fused = {.name = name, .rows = rows, .first = queries + d, .run = d, .stride = stride};
}

TensorView linear_weight(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer, LinearId id) {
  const LinearSpec& linear = spec.linears[id];
  return rows_of(linear,
                 checkpoint.at(spec.source_name(layer, id) + ".weight", {linear.source_rows(), linear.k}));
}

TensorView linear_bias(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer, LinearId id) {
  const LinearSpec& linear = spec.linears[id];
  return rows_of(linear, checkpoint.at(spec.source_name(layer, id) + ".bias", {linear.source_rows()}));
}

}  // namespace tessera
