// Writing model.safetensors.index.json, or all shards as one file.
#include "tessera/format/checkpoint_index.h"

#include <fmt/format.h>

#include <deque>
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

uint64_t shard_bytes(const std::filesystem::path& dir, int64_t shards) {
  uint64_t bytes = 0;
  for (int64_t i = 0; i < shards; ++i) bytes += std::filesystem::file_size(dir / shard_name(i, shards));
  return bytes;
}

FileDigest join_shards(const std::filesystem::path& dir, int64_t shards) {
  std::deque<SafetensorsFile> files;  // does not move them
  std::vector<NamedTensor> tensors;
  for (int64_t i = 0; i < shards; ++i) {
    for (const auto& [name, view] : files.emplace_back(dir / shard_name(i, shards)).tensors()) {
      tensors.push_back({name, view});
    }
  }
  return write_safetensors(dir / kWeightsName, tensors);
}

}  // namespace tessera
