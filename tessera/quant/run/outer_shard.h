// What a run writes of the parameters outside the blocks: in the first shard, and the final norm, where a
// pass fits it to the quantized blocks, with the last block.
#pragma once

#include "tessera/quant/block/streams.h"
#include "tessera/quant/run/plan.h"
#include "tessera/quant/run/shards.h"

namespace tessera {

/// The first shard, changed as passes and recipe ask for; without the final norm where a pass changes that.
Shard make_outer_shard(const RunPlan& plan, const Recipe& recipe, const at::Device& device);

/// Adds the final norm to the shard of the last block, when a pass of the plan changes it. `streams` are the
/// block's outputs, and its report takes what was done.
void add_final_norm(const RunPlan& plan, const Streams& streams, BlockContext& last, Shard& shard);

}  // namespace tessera
