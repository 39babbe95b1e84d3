// ModelFiles.
#include "tessera/source/model_files.h"

#include <algorithm>
#include <array>
#include <memory>

#include "tessera/base/atomic_output.h"
#include "tessera/base/json_node.h"
#include "tessera/source/gguf_files.h"

namespace tessera {

namespace fs = std::filesystem;

void require_model(const fs::path& path) {
  if (fs::is_directory(path) || is_gguf(path)) return;
  if (!fs::exists(path)) throw Error("{}: no such model folder or GGUF file", path.string());
  throw Error("{}: neither a model folder nor a GGUF file", path.string());
}

ModelFiles::ModelFiles(const fs::path& path) : path_(path) {
  require_model(path);
  if (!fs::is_directory(path)) {
    files_ = gguf_files(std::make_shared<const GgufModel>(path));
    return;
  }
  for (const auto& entry : fs::directory_iterator(path)) {
    if (!entry.is_regular_file()) continue;
    files_[entry.path().filename().string()] = [file = entry.path()] { return read_file(file); };
  }
}

std::set<std::string> ModelFiles::names() const {
  std::set<std::string> names;
  for (const auto& [name, content] : files_) names.insert(name);
  return names;
}

std::set<std::string> ModelFiles::companions() const {
  static constexpr std::array kWeightExtensions = {".safetensors", ".bin",     ".pt",   ".pth",
                                                   ".h5",          ".msgpack", ".gguf", ".onnx"};
  static constexpr std::array kOwnNames = {"config.json", "quantize_config.json", "report.json",
                                           "conversion.json"};
  const auto contains = [](const auto& list, const std::string& text) {
    return std::ranges::find(list, text) != list.end();
  };
  std::set<std::string> companions = names();
  std::erase_if(companions, [&](const std::string& name) {
    return contains(kWeightExtensions, fs::path(name).extension().string()) || contains(kOwnNames, name) ||
           name.ends_with(".index.json") || name.starts_with("golden") ||
           name.starts_with("tokenizer_golden") || name.starts_with(".");
  });
  return companions;
}

std::string ModelFiles::read(std::string_view name) const {
  return files_.find(name)->second();
}

nlohmann::json ModelFiles::json(std::string_view name) const {
  return parse_json(read(name), where(name));
}

std::string ModelFiles::where(std::string_view name) const {
  if (fs::is_directory(path_)) return (path_ / name).string();
  return fmt::format("{}: {}", path_.string(), name);
}

}  // namespace tessera
