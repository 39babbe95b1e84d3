// The GGUF container (versions 2 and 3): metadata and tensors of one mapped file.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "tessera/base/json_node.h"
#include "tessera/base/mapped_file.h"
#include "tessera/base/tensor.h"
#include "tessera/source/gguf_blocks.h"

namespace tessera {

/// A tensor as it is stored: rows of whole blocks.
struct GgufTensor {
  const GgufFormat* format = nullptr;
  Shape shape;                      ///< slowest dimension first, as everywhere but in the file
  std::span<const std::byte> data;  ///< in the mapped file
};

/// One .gguf file, mapped. Every count and offset is checked against the file's size before it is used.
class GgufFile {
 public:
  /// Throws Error, naming file and place, for other files and versions, when the file is cut short, a tensor
  /// has a type that is not read or lies outside the file, tensors overlap, a name comes twice, or a limit is
  /// passed: strings of 16 MB, 65,536 tensors, four million values of metadata, an alignment of 4096.
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  /// An object with all keys; arrays of strings, numbers or booleans are JSON arrays.
  JsonNode metadata() const { return {metadata_, file_.path().string()}; }
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }

 private:
  MappedFile file_;
  nlohmann::json metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
};

/// Whether `path` is a file that begins as GGUF files do.
bool is_gguf(const std::filesystem::path& path);

}  // namespace tessera
