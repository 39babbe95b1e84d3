// An lm_head in 8 bits.
#pragma once

#include "tessera/quant/recipe/scheme.h"
#include "tessera/quant/run/shards.h"

namespace tessera {

constexpr char kLmHead[] = "lm_head";  ///< of every family, where it is not the embedding
constexpr LinearScheme kLmHeadScheme{.weight = {.bits = 8}, .activation = {}};

/// Puts the codes of the head, rounded to nearest, in place of its weights in `outer`, the shard of what lies
/// outside the blocks; beside them where the embedding is the head.
void round_lm_head(const ModelSpec& spec, Shard& outer);

/// Bytes that the codes add to the shard, an upper bound, and bytes that round_lm_head holds at its peak.
uint64_t lm_head_disk_bytes(const ModelSpec& spec);
size_t lm_head_bytes(const ModelSpec& spec);

}  // namespace tessera
