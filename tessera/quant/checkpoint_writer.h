// Writing a quantized checkpoint: shards as they come, then the index, config.json and the tokenizer, then
// the rename that makes it visible.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tessera/format/safetensors.h"

namespace tessera {

/// A folder that is filled as OUT.partial and becomes OUT when it is complete.
class CheckpointWriter {
 public:
  /// Touches nothing. Throws Error when `out` exists and may not be replaced (only empty folders and model
  /// folders are ever replaced), is or holds the source model, or cannot be created.
  CheckpointWriter(std::filesystem::path out, const std::filesystem::path& model_dir, bool overwrite);

  const std::filesystem::path& partial() const { return partial_; }
  bool has_partial() const { return std::filesystem::exists(partial_); }
  /// Empties OUT.partial, creating it where needed. Throws Error when it cannot be created or `bytes` are
  /// more than the disk has free.
  void start(uint64_t bytes);
  /// Removes everything else from OUT.partial: what was being written when a run was interrupted.
  void keep_only(const std::set<std::string>& names);

  /// model-00001-of-0000N.safetensors is shard 0 of N.
  static std::string shard_name(int64_t index, int64_t count);
  void write_shard(int64_t index, int64_t count, const std::vector<NamedTensor>& tensors);
  /// Writes the index of all shards and config.json, copies the source's other files (tokenizer, generation
  /// settings; not weights, not golden values).
  void write_metadata(int64_t shards, const nlohmann::json& quantization_config, bool untied_embedding);
  /// OUT.partial becomes OUT, replacing what was there.
  void publish();

 private:
  std::filesystem::path out_, partial_, model_dir_;
};

}  // namespace tessera
