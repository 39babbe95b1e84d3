// The shards of a checkpoint in a folder, and the index that lists their tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "tessera/base/hash.h"

namespace tessera {

/// The weights of a checkpoint that is not cut into shards.
inline constexpr const char* kWeightsName = "model.safetensors";
inline constexpr const char* kIndexName = "model.safetensors.index.json";

/// model-00001-of-0000N.safetensors is shard 0.
std::string shard_name(int64_t index, int64_t shards);

/// Writes the index of the shards in `dir`, which must be there.
void write_index(const std::filesystem::path& dir, int64_t shards);

/// A checkpoint of at most so many bytes is one file.
inline constexpr uint64_t kOneFileBytes = uint64_t{1} << 30;

/// Bytes of the shards in `dir`, which must be there.
uint64_t shard_bytes(const std::filesystem::path& dir, int64_t shards);
/// Writes the tensors of all shards into `dir`/model.safetensors. The shards stay.
FileDigest join_shards(const std::filesystem::path& dir, int64_t shards);

}  // namespace tessera
