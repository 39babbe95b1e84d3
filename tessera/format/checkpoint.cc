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
    for (const auto& [tensor, view] : files_.back()->tensors()) {
      if (!views_.emplace(tensor, &view).second) {
        throw Error("{}: tensor {} is also in another shard", (path_ / name).string(), tensor);
      }
      tensors_[tensor] = {view.dtype, view.shape};
    }
  }
  for (const auto& [name, file] : weight_map) {
    if (!tensors_.contains(name))
      throw Error("{}: tensor {} is missing although the index names it", (path_ / file).string(), name);
  }
}

const TensorInfo& Checkpoint::info(std::string_view name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) throw Error("{}: tensor {} is missing", path_.string(), name);
  return it->second;
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
  return gguf_ ? gguf_->read(name) : *views_.find(name)->second;
}

TensorView Checkpoint::at(std::string_view name, const Shape& expected) const {
  info(name, expected);
  return at(name);
}

std::vector<fs::path> Checkpoint::files() const {
  if (gguf_) return gguf_->files();
  std::vector<fs::path> paths;
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

void Checkpoint::release_pages() const {
  for (const auto& [name, view] : views_) tessera::release_pages(*view);
  if (gguf_) gguf_->release_pages();
}

}  // namespace tessera
