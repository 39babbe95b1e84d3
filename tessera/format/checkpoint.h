// The weights of a model, whatever files hold them.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tessera/format/safetensors.h"
#include "tessera/source/gguf_model.h"

namespace tessera {

/// All weights of a model, under the names of Hugging Face: those of a folder, in model.safetensors or the
/// shards that model.safetensors.index.json names, or those of a GGUF file.
class Checkpoint {
 public:
  /// `path` is the folder or the GGUF file. Throws Error when there are no weights, a file is missing or
  /// malformed, or the index names an absent tensor.
  explicit Checkpoint(const std::filesystem::path& path);

  /// The folder or the GGUF file.
  const std::filesystem::path& dir() const { return path_; }
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// What a tensor is, without reading it. Throws Error (path and name) when it is absent.
  const TensorInfo& info(std::string_view name) const;
  /// Throws Error, too, when the shape is not the expected one.
  const TensorInfo& info(std::string_view name, const Shape& expected) const;
  /// A view into a mapped file, valid as long as this object lives; or, where a tensor is not stored as a
  /// view could show it, a decoded copy that the view owns. Throws as info() does.
  TensorView at(std::string_view name) const;
  TensorView at(std::string_view name, const Shape& expected) const;
  const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
  /// The files, in order of their names.
  std::vector<std::filesystem::path> files() const;
  /// Lets the system drop what is in memory of the mapped files.
  void release_pages() const;

 private:
  void open_folder();

  std::filesystem::path path_;
  std::unique_ptr<GgufModel> gguf_;  ///< null: a folder, whose files follow
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const TensorView*, std::less<>> views_;  ///< into files_
  std::map<std::string, TensorInfo, std::less<>> tensors_;
};

}  // namespace tessera
