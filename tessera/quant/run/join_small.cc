// First the file, then the journal that relies on it, then the shards go.
#include "tessera/quant/run/join_small.h"

#include "tessera/format/checkpoint_index.h"
#include "tessera/quant/run/disk_plan.h"

namespace tessera {

void join_small(Journal& journal, const CheckpointWriter& writer) {
  if (!journal.kept().contains(kWeightsName)) {
    uint64_t bytes = 0;
    for (int64_t i = 0; i < writer.shards(); ++i) bytes += journal.kept().at(writer.shard_name(i)).bytes;
    if (bytes > kOneFileBytes) return;
    journal.keep(kWeightsName, writer.join_shards());
    for (int64_t i = 0; i < writer.shards(); ++i) journal.forget(writer.shard_name(i));
    journal.write();
  }
  writer.remove_shards();
}

}  // namespace tessera
