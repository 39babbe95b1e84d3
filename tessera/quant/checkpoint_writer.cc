// The files of a quantized checkpoint.
#include "tessera/quant/checkpoint_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tessera/base/atomic_output.h"
#include "tessera/quant/owned_files.h"

namespace tessera {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";

/// Weights in any container, their indexes, another tool's settings of them, and golden values are not
/// copied.
bool is_copied(const fs::path& file) {
  static constexpr std::array kWeightExtensions = {".safetensors", ".bin",     ".pt",   ".pth",
                                                   ".h5",          ".msgpack", ".gguf", ".onnx"};
  const std::string name = file.filename().string();
  const bool weights =
      std::ranges::find(kWeightExtensions, file.extension().string()) != kWeightExtensions.end();
  const bool generated = name == "config.json" || name == "quantize_config.json" || name == kReportName ||
                         name.ends_with(".index.json") || is_working_name(name);
  return !weights && !generated && !name.starts_with("golden") && !name.starts_with("tokenizer_golden") &&
         !name.starts_with(".");
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path dir, fs::path model_dir, int64_t shards)
    : dir_(std::move(dir)), model_dir_(std::move(model_dir)), shards_(shards) {
  for (const auto& entry : fs::directory_iterator(model_dir_)) {
    if (entry.is_regular_file() && is_copied(entry.path())) copied_.insert(entry.path().filename().string());
  }
}

std::set<std::string> CheckpointWriter::files() const {
  std::set<std::string> names = copied_;
  names.insert({kIndexName, "config.json", kReportName});
  for (int64_t i = 0; i < shards_; ++i) names.insert(shard_name(i));
  return names;
}

std::string CheckpointWriter::shard_name(int64_t index) const {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, shards_);
}

FileDigest CheckpointWriter::write_shard(int64_t index, const std::vector<NamedTensor>& tensors) {
  return write_safetensors(dir_ / shard_name(index), tensors);
}

void CheckpointWriter::write_metadata(const nlohmann::json& quantization_config, bool untied_embedding) {
  ordered_json weight_map = ordered_json::object();
  uint64_t total = 0;
  for (int64_t i = 0; i < shards_; ++i) {
    const SafetensorsFile shard(dir_ / shard_name(i));
    for (const auto& [name, view] : shard.tensors()) {
      weight_map[name] = shard_name(i);
      total += view.bytes();
    }
  }
  const ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file(dir_ / kIndexName, index.dump(2) + "\n");

  auto config = ordered_json::parse(read_file(model_dir_ / "config.json"));
  if (untied_embedding) config["tie_word_embeddings"] = false;
  config["quantization_config"] = quantization_config;
  write_file(dir_ / "config.json", config.dump(2) + "\n");

  for (const std::string& name : copied_) write_file(dir_ / name, read_file(model_dir_ / name));
}

}  // namespace tessera
