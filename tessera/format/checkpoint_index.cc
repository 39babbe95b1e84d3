// Writing model.safetensors.index.json.
#include "tessera/format/checkpoint_index.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tessera/base/atomic_output.h"
#include "tessera/format/safetensors.h"

namespace tessera {

using nlohmann::ordered_json;

std::string shard_name(int64_t index, int64_t shards) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, shards);
}

void write_index(const std::filesystem::path& dir, int64_t shards) {
  ordered_json weight_map = ordered_json::object();
  uint64_t total = 0;
  for (int64_t i = 0; i < shards; ++i) {
    const SafetensorsFile shard(dir / shard_name(i, shards));
    for (const auto& [name, view] : shard.tensors()) {
      weight_map[name] = shard_name(i, shards);
      total += view.bytes();
    }
  }
  const ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file(dir / kIndexName, index.dump(2) + "\n");
}

}  // namespace tessera
