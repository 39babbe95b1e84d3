// What a run writes of the parameters outside the blocks: in the first shard, and in the last one what
// depends on the quantized blocks.
#pragma once

#include "tessera/quant/block/streams.h"
#include "tessera/quant/run/plan.h"
#include "tessera/quant/run/shards.h"

namespace tessera {

/// The first shard, changed as passes ask for, without what add_head adds.
Shard make_outer_shard(const RunPlan& plan, const Recipe& recipe, const at::Device& device);

/// Adds to the shard of the last block the final norm, where a pass changes it, and with it an lm_head in 8
/// bits, where the recipe has one. `streams` are the block's outputs, undefined without calibration, and the
/// block's report takes what was done.
void add_head(const RunPlan& plan, const Recipe& recipe, const Streams& streams, BlockContext& last,
              const at::Device& device, Shard& shard);

}  // namespace tessera
