// What a quantized checkpoint consists of: shards as they come, joined where they are small, otherwise with
// an index, then config.json and the tokenizer.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tessera/format/checkpoint_index.h"
#include "tessera/format/safetensors.h"
#include "tessera/source/model_files.h"

namespace tessera {

/// Writes the files of one checkpoint of `shards` shards into `dir`.
class CheckpointWriter {
 public:
  /// `model`: the source, a folder or a GGUF file.
  CheckpointWriter(std::filesystem::path dir, const std::filesystem::path& model, int64_t shards);

  /// Names of all files that may be written here, and of the report.
  std::set<std::string> files() const;
  int64_t shards() const { return shards_; }
  /// model-00001-of-0000N.safetensors is shard 0.
  std::string shard_name(int64_t index) const;
  /// When all shards are there: true where they belong into one file.
  bool is_small() const { return shard_bytes(dir_, shards_) <= kOneFileBytes; }
  FileDigest join() const { return join_shards(dir_, shards_); }
  /// Writes the index of all shards, where they are not joined, and config.json, copies the source's other
  /// files (tokenizer, generation settings; not weights, not golden values).
  void write_metadata(const nlohmann::json& quantization_config, bool untied_embedding);

 private:
  std::filesystem::path dir_;
  ModelFiles source_;
  int64_t shards_;
  std::set<std::string> copied_;
};

}  // namespace tessera
