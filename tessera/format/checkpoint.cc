// Opening the files of a checkpoint, and finding tensors in them.
#include "tessera/format/checkpoint.h"

#include <regex>
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

/// The shards of a folder without an index: all that their names count, such as model-00002-of-00003.
std::set<std::string> unlisted_shards(const fs::path& dir) {
  static const std::regex kShard(R"((.{1,200})-(\d{5})-of-(\d{5})\.safetensors)");
  std::map<std::pair<std::string, std::string>, std::set<std::string>> sets;  // by prefix and count
  std::smatch match;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (name.size() < 256 && std::regex_match(name, match, kShard)) sets[{match[1], match[3]}].insert(name);
  }
  if (sets.empty()) return {};
  const auto& [key, shards] = *sets.begin();
  if (sets.size() > 1 || shards.size() != std::stoul(key.second)) {
    throw Error("{}: holds {} of {} shards and no {}; download what is missing", dir.string(), shards.size(),
                key.second, kIndexName);
  }
  return shards;
}

[[noreturn]] void fail_without_weights(const fs::path& dir) {
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string(), kind = entry.path().extension().string();
    if (kind == ".gguf") throw Error("{}: holds {}; name that file", dir.string(), name);
    if (kind == ".bin" || kind == ".pth" || kind == ".pt")
      throw Error("{}: {} is not safetensors; convert the weights to safetensors", dir.string(), name);
  }
  throw Error("{}: neither model.safetensors nor {} is there; download the weights", dir.string(),
              kIndexName);
}

/// The files that hold the weights, as Transformers chooses them; fills `weight_map` where an index counts.
std::set<std::string> weight_files(const fs::path& dir, std::map<std::string, std::string>& weight_map) {
  if (fs::exists(dir / kWeightsName)) return {kWeightsName};
  std::set<std::string> names;
  if (fs::exists(dir / kIndexName)) {
    weight_map = read_index(dir / kIndexName);
    for (const auto& [tensor, file] : weight_map) names.insert(file);
  } else {
    names = unlisted_shards(dir);
  }
  if (names.empty()) fail_without_weights(dir);
  return names;
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& path, DType decoded) : path_(path) {
  require_model(path);
  if (fs::is_directory(path)) {
    open_folder();
  } else {
    gguf_ = std::make_unique<GgufModel>(path, decoded);
    tensors_ = gguf_->tensors();
  }
}

void Checkpoint::open_folder() {
  std::map<std::string, std::string> weight_map;
  for (const std::string& name : weight_files(path_, weight_map)) {
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

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : tensors_) names.push_back(name);
  for (const auto& [name, reason] : unreadable_) names.push_back(name);
  return names;
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
