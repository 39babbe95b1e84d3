// The files of a quantized checkpoint.
#include "tessera/quant/run/checkpoint_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tessera/base/atomic_output.h"
#include "tessera/quant/run/owned_files.h"

namespace tessera {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";

/// Weights in any container, their indexes, another tool's settings of them, and golden values are not
/// copied.
bool is_copied(const std::string& name) {
  static constexpr std::array kWeightExtensions = {".safetensors", ".bin",     ".pt",   ".pth",
                                                   ".h5",          ".msgpack", ".gguf", ".onnx"};
  const bool weights =
      std::ranges::find(kWeightExtensions, fs::path(name).extension().string()) != kWeightExtensions.end();
  const bool generated = name == "config.json" || name == "quantize_config.json" || name == kReportName ||
                         name.ends_with(".index.json") || is_working_name(name);
  return !weights && !generated && !name.starts_with("golden") && !name.starts_with("tokenizer_golden") &&
         !name.starts_with(".");
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path dir, const fs::path& model, int64_t shards)
    : dir_(std::move(dir)), source_(model), shards_(shards) {
  for (const std::string& name : source_.names()) {
    if (is_copied(name)) copied_.insert(name);
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

  auto config = ordered_json::parse(source_.read("config.json"));
  if (untied_embedding) config["tie_word_embeddings"] = false;
  config["quantization_config"] = quantization_config;
  write_file(dir_ / "config.json", config.dump(2) + "\n");

  for (const std::string& name : copied_) write_file(dir_ / name, source_.read(name));
}

}  // namespace tessera
