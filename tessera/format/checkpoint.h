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

/// All weights of a model, under the names of Hugging Face: those of a folder, in model.safetensors, else the
/// shards that model.safetensors.index.json names, else a complete set of shards without an index; or those
/// of a GGUF file.
class Checkpoint {
 public:
  /// `path` is the folder or the GGUF file. Throws Error when there are no weights, or a file is missing or
  /// malformed. A tensor that cannot be read is no error until it is asked for: of a dtype that is not known
  /// here, named by the index but absent, or in two shards of which the index names neither. `decoded` is
  /// what a GGUF file's blocks become (GgufModel).
  explicit Checkpoint(const std::filesystem::path& path, DType decoded = DType::kF16);

  /// The folder or the GGUF file.
  const std::filesystem::path& dir() const { return path_; }
  /// Whether `name` is there, readable or not.
  bool contains(std::string_view name) const { return tensors_.contains(name) || unreadable_.contains(name); }
  /// What a tensor is, without reading it. Throws Error (path and name) when it is absent or cannot be read.
  const TensorInfo& info(std::string_view name) const;
  /// Throws Error, too, when the shape is not the expected one.
  const TensorInfo& info(std::string_view name, const Shape& expected) const;
  /// A view into a mapped file, valid as long as this object lives; or, where a tensor is not stored as a
  /// view could show it, a decoded copy that the view owns. Throws as info() does.
  TensorView at(std::string_view name) const;
  TensorView at(std::string_view name, const Shape& expected) const;
  /// All names, readable or not.
  std::vector<std::string> names() const;
  /// Those that can be read.
  const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
  /// Whether a GGUF file keeps the codes of linear PREFIX (GgufModel::has_codes), and what they are; PREFIX
  /// must have some.
  bool has_gguf_codes(const std::string& prefix) const;
  GgufCodes gguf_codes(const std::string& prefix) const;
  /// The files, in order of their names.
  std::vector<std::filesystem::path> files() const;
  /// Lets the system drop what is in memory of the mapped files.
  void release_pages() const;

 private:
  void open_folder();
  void add_tensors(const SafetensorsFile& file, const std::map<std::string, std::string>& weight_map);

  std::filesystem::path path_;
  std::unique_ptr<GgufModel> gguf_;  ///< null: a folder, whose files follow
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*, std::less<>> holders_;  ///< of tensors in files_
  std::map<std::string, TensorInfo, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> unreadable_;  ///< and why
};

}  // namespace tessera
