// Output folders that appear whole.
#include "tessera/quant/checkpoint_writer.h"

#include <algorithm>
#include <array>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

/// Weights in any container, their indexes, and golden values are not copied.
bool is_copied(const fs::path& file) {
  static constexpr std::array kWeightExtensions = {".safetensors", ".bin",     ".pt",   ".pth",
                                                   ".h5",          ".msgpack", ".gguf", ".onnx"};
  const std::string name = file.filename().string();
  const bool weights =
      std::ranges::find(kWeightExtensions, file.extension().string()) != kWeightExtensions.end();
  const bool generated = name == "config.json" || name == "report.json" || name.ends_with(".index.json");
  return !weights && !generated && !name.starts_with("golden") && !name.starts_with("tokenizer_golden") &&
         !name.starts_with(".");
}

/// True when `inner` is `outer` or lies in it.
bool holds(const fs::path& outer, const fs::path& inner) {
  const fs::path relative = fs::weakly_canonical(inner).lexically_relative(fs::weakly_canonical(outer));
  return !relative.empty() && *relative.begin() != "..";
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path out, const fs::path& model_dir, bool overwrite)
    : out_(std::move(out)), model_dir_(model_dir) {
  if (!out_.has_filename()) out_ = out_.parent_path();  // "OUT/"
  partial_ = out_.string() + ".partial";
  if (holds(out_, model_dir_)) {
    throw Error("{}: the output folder holds the source model; choose another", out_.string());
  }
  if (!fs::exists(out_)) return;
  if (!overwrite) throw Error("{}: exists; remove it, or replace it with --overwrite", out_.string());
  if (!fs::is_directory(out_) || !(fs::is_empty(out_) || fs::exists(out_ / "config.json"))) {
    throw Error("{}: not a model folder, so --overwrite will not replace it", out_.string());
  }
}

void CheckpointWriter::start(uint64_t bytes) {
  std::error_code error;
  fs::remove_all(partial_, error);
  if (!error) fs::create_directories(partial_, error);
  if (error) throw Error("{}: cannot create: {}", partial_.string(), error.message());
  const fs::space_info space = fs::space(partial_, error);
  if (error || space.available >= bytes) return;
  fs::remove_all(partial_, error);
  throw Error("{}: the run needs about {} MB, the disk has {} MB free", partial_.string(), bytes / 1000000,
              space.available / 1000000);
}

void CheckpointWriter::keep_only(const std::set<std::string>& names) {
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(partial_)) {
    if (!names.contains(entry.path().filename().string())) others.push_back(entry.path());
  }
  for (const fs::path& path : others) fs::remove_all(path);
}

std::string CheckpointWriter::shard_name(int64_t index, int64_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void CheckpointWriter::write_shard(int64_t index, int64_t count, const std::vector<NamedTensor>& tensors) {
  write_safetensors(partial_ / shard_name(index, count), tensors);
}

void CheckpointWriter::write_metadata(int64_t shards, const nlohmann::json& quantization_config,
                                      bool untied_embedding) {
  ordered_json weight_map = ordered_json::object();
  uint64_t total = 0;
  for (int64_t i = 0; i < shards; ++i) {
    const SafetensorsFile shard(partial_ / shard_name(i, shards));
    for (const auto& [name, view] : shard.tensors()) {
      weight_map[name] = shard_name(i, shards);
      total += view.bytes();
    }
  }
  const ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file(partial_ / "model.safetensors.index.json", index.dump(2) + "\n");

  auto config = ordered_json::parse(read_file(model_dir_ / "config.json"));
  if (untied_embedding) config["tie_word_embeddings"] = false;
  config["quantization_config"] = quantization_config;
  write_file(partial_ / "config.json", config.dump(2) + "\n");

  for (const auto& entry : fs::directory_iterator(model_dir_)) {
    if (entry.is_regular_file() && is_copied(entry.path())) {
      write_file(partial_ / entry.path().filename(), read_file(entry.path()));
    }
  }
}

void CheckpointWriter::publish() {
  const fs::path replaced = out_.string() + ".replaced";
  std::error_code error;
  fs::remove_all(replaced, error);
  if (!error && fs::exists(out_)) fs::rename(out_, replaced, error);
  if (!error) fs::rename(partial_, out_, error);
  if (error) throw Error("{}: cannot become {}: {}", partial_.string(), out_.string(), error.message());
  fs::remove_all(replaced, error);
}

}  // namespace tessera
