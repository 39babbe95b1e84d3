// Opening the files of a checkpoint, and finding tensors in them.
#include "tessera/format/checkpoint.h"

#include <set>

#include "tessera/base/error.h"
#include "tessera/base/json_node.h"
#include "tessera/format/checkpoint_index.h"
#include "tessera/source/model_files.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

/// The index's map from tensors to file names.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const nlohmann::json index = read_json(path);
  std::map<std::string, std::string> files;
  for (const auto& [tensor, node] : JsonNode(index, path.string())["weight_map"].members()) {
    const std::string& file = node.string();
    if (fs::path(file).filename() != file) node.fail("'{}' is not a plain file name", file);
    files[tensor] = file;
  }
  return files;
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& path) : path_(path) {
  require_model(path);
  if (fs::is_directory(path)) {
    open_folder();
  } else {
    gguf_ = std::make_unique<GgufModel>(path);
    tensors_ = gguf_->tensors();
  }
}

void Checkpoint::open_folder() {
  std::set<std::string> names;
  std::map<std::string, std::string> weight_map;
  if (fs::exists(path_ / kIndexName)) {
    weight_map = read_index(path_ / kIndexName);
    for (const auto& [tensor, file] : weight_map) names.insert(file);
  } else if (fs::exists(path_ / "model.safetensors")) {
    names.insert("model.safetensors");
  } else {
    throw Error("{}: neither model.safetensors nor {} is there; convert the weights to safetensors",
                path_.string(), kIndexName);
  }
  for (const std::string& name : names) {
    if (!fs::exists(path_ / name)) throw Error("{}: shard {} is missing; download it", path_.string(), name);
    files_.push_back(std::make_unique<SafetensorsFile>(path_ / name));
    add_tensors(*files_.back(), weight_map);
  }
  for (const auto& [name, file] : weight_map) {
    if (contains(name)) continue;
    unreadable_[name] =
        fmt::format("{}: tensor {} is missing although the index names it", (path_ / file).string(), name);
  }
}

/// Of a tensor in two shards the one that the index names counts.
void Checkpoint::add_tensors(const SafetensorsFile& file,
                             const std::map<std::string, std::string>& weight_map) {
  const auto shard = [](const SafetensorsFile& f) { return f.path().filename().string(); };
  const auto named = [&](const std::string& tensor, const SafetensorsFile& f) {
    const auto entry = weight_map.find(tensor);
    return entry != weight_map.end() && entry->second == shard(f);
  };
  for (const auto& [name, view] : file.tensors()) {
    const auto [holder, is_new] = holders_.emplace(name, &file);
    if (!is_new && named(name, *holder->second)) continue;
    if (!is_new && !named(name, file)) {
      unreadable_[name] = fmt::format("{}: tensor {} is also in {}, and the index names neither",
                                      file.path().string(), name, shard(*holder->second));
      tensors_.erase(name);
      continue;
    }
    holder->second = &file;
    tensors_[name] = {view.dtype, view.shape};
  }
  unreadable_.insert(file.unreadable().begin(), file.unreadable().end());
}

const TensorInfo& Checkpoint::info(std::string_view name) const {
  const auto it = tensors_.find(name);
  if (it != tensors_.end()) return it->second;
  const auto reason = unreadable_.find(name);
  if (reason != unreadable_.end()) throw Error("{}", reason->second);
  throw Error("{}: tensor {} is missing", path_.string(), name);
}

const TensorInfo& Checkpoint::info(std::string_view name, const Shape& expected) const {
  const TensorInfo& found = info(name);
  if (found.shape != expected) {
    throw Error("{}: tensor {} has shape {}, config.json asks for {}", path_.string(), name,
                to_string(found.shape), to_string(expected));
  }
  return found;
}

TensorView Checkpoint::at(std::string_view name) const {
  info(name);  // refuses absent ones
  return gguf_ ? gguf_->read(name) : holders_.find(name)->second->at(name);
}

TensorView Checkpoint::at(std::string_view name, const Shape& expected) const {
  info(name, expected);
  return at(name);
}

bool Checkpoint::has_gguf_codes(const std::string& prefix) const {
  return gguf_ && gguf_->has_codes(prefix + ".weight");
}

GgufCodes Checkpoint::gguf_codes(const std::string& prefix) const {
  return gguf_->codes(prefix + ".weight");
}

std::vector<fs::path> Checkpoint::files() const {
  if (gguf_) return gguf_->files();
  std::vector<fs::path> paths;
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

void Checkpoint::release_pages() const {
  for (const auto& file : files_) file->release_pages();
  if (gguf_) gguf_->release_pages();
}

}  // namespace tessera
