// The sizes of what shards.cc and streams.cc write.
#include "tessera/quant/run/disk_plan.h"

#include <algorithm>

#include "tessera/format/checkpoint_index.h"
#include "tessera/quant/run/lm_head.h"
#include "tessera/quant/run/shards.h"

namespace tessera {
namespace {

constexpr int64_t kFloat = sizeof(float);

/// Codes, scales, zero points, sums and bias of a linear.
int64_t linear_bytes(const LinearSpec& linear, const WeightScheme& weight) {
  const int64_t codes = linear.n * linear.k / (weight.bits > 4 ? 1 : 2),
                groups = weight.group_size > 0 ? linear.k / weight.group_size : 1;
  return codes + linear.n * (2 * groups + 3 * kFloat);
}

uint64_t block_bytes(const ModelSpec& spec, const PerLinear<LinearScheme>& schemes,
                     std::span<const std::unique_ptr<Pass>> passes) {
  int64_t bytes = 0;
  for (LinearId id : spec.linear_ids()) bytes += linear_bytes(spec.linears[id], schemes[id].weight);
  for (NormId id : spec.existing_norms()) bytes += 2 * spec.norm_width(id) * kFloat;
  auto total = static_cast<uint64_t>(bytes);
  for (size_t i = 0; i < passes.size(); ++i) {
    total += passes[i]->added_disk_bytes({spec, schemes, passes.first(i)});
  }
  return total;
}

uint64_t outer_bytes(const ModelSpec& spec, const Checkpoint& checkpoint, bool changed) {
  if (changed) {  // matrices in the checkpoint's type; vectors, a bias of lm_head among them, in F32
    const auto value = static_cast<int64_t>(size_of(checkpoint.info(spec.embedding).dtype));
    const int64_t vectors = 8 * spec.hidden_size + spec.vocab_size;
    return static_cast<uint64_t>(outer_elements(checkpoint, spec) * value + vectors * kFloat);
  }
  const Shard shard = outer_shard(checkpoint, spec);
  uint64_t bytes = 0;
  for (const NamedTensor& tensor : shard.tensors()) bytes += tensor.tensor.bytes();
  return bytes;
}

}  // namespace

DiskPlan plan_disk(const ModelSpec& spec, const Checkpoint& checkpoint,
                   const PerLinear<LinearScheme>& schemes, const std::vector<std::unique_ptr<Pass>>& passes,
                   int64_t windows, int64_t tokens, bool rounds_lm_head) {
  const bool changed = std::ranges::any_of(passes, [](const auto& pass) { return pass->unties_embedding(); });
  const uint64_t block = block_bytes(spec, schemes, passes),
                 outer =
                     outer_bytes(spec, checkpoint, changed) + (rounds_lm_head ? lm_head_disk_bytes(spec) : 0);
  const int64_t stream = windows * tokens * spec.hidden_size * kFloat;
  const uint64_t result = outer + static_cast<uint64_t>(spec.n_layers) * block;
  return {.result = result,
          .beside = result <= kOneFileBytes ? result : std::max(outer, block),
          .streams = static_cast<uint64_t>(2 * 2 * stream)};
}

}  // namespace tessera
