// One file for a small checkpoint.
#pragma once

#include "tessera/quant/run/checkpoint_writer.h"
#include "tessera/quant/run/journal.h"

namespace tessera {

/// Shards let a run resume. When all are there, those of a checkpoint of at most kOneFileBytes become one
/// file; interrupted at any point, this goes on when it is called again.
void join_small(Journal& journal, const CheckpointWriter& writer);

}  // namespace tessera
