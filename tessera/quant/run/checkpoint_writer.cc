// The files of a quantized checkpoint.
#include "tessera/quant/run/checkpoint_writer.h"

#include "tessera/base/atomic_output.h"
#include "tessera/base/json_node.h"
#include "tessera/quant/run/owned_files.h"

namespace tessera {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

CheckpointWriter::CheckpointWriter(fs::path dir, const fs::path& model, int64_t shards)
    : dir_(std::move(dir)), source_(model), shards_(shards), copied_(source_.companions()) {
  std::erase_if(copied_, is_working_name);
}

std::set<std::string> CheckpointWriter::files() const {
  std::set<std::string> names = copied_;
  names.insert({kWeightsName, kIndexName, "config.json", kReportName});
  for (int64_t i = 0; i < shards_; ++i) names.insert(shard_name(i));
  return names;
}

std::string CheckpointWriter::shard_name(int64_t index) const {
  return tessera::shard_name(index, shards_);
}

void CheckpointWriter::write_metadata(const nlohmann::json& quantization_config, bool untied_embedding) {
  if (!fs::exists(dir_ / kWeightsName)) write_index(dir_, shards_);
  auto config = parse_ordered_json(source_.read("config.json"), source_.where("config.json"));
  if (untied_embedding) config["tie_word_embeddings"] = false;
  config["quantization_config"] = quantization_config;
  write_file(dir_ / "config.json", config.dump(2) + "\n");

  for (const std::string& name : copied_) write_file(dir_ / name, source_.read(name));
}

}  // namespace tessera
