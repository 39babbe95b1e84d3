// The safetensors container: reading through a memory map, writing atomically.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tessera/base/hash.h"
#include "tessera/base/mapped_file.h"
#include "tessera/base/tensor.h"

namespace tessera {

/// One .safetensors file, mapped. Every offset is checked against the file's size before a view is handed
/// out.
class SafetensorsFile {
 public:
  /// Throws Error when the header is malformed, a tensor points outside the file, its byte count does not
  /// match its dtype and shape, or tensors overlap.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  /// As they lie in the file, perhaps not aligned to their dtype. Views stay valid as long as this object
  /// lives.
  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  /// Why a tensor is not among them: its dtype is not known here.
  const std::map<std::string, std::string, std::less<>>& unreadable() const { return unreadable_; }
  /// The tensor `name`, which must be there: a view into the file, or, where that is not aligned, a copy that
  /// the view owns.
  TensorView at(std::string_view name) const;
  /// Lets the system drop what is in memory of the file.
  void release_pages() const { tessera::release_pages(file_.bytes()); }

 private:
  MappedFile file_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> unreadable_;
};

/// A named tensor about to be written.
struct NamedTensor {
  std::string name;
  TensorView tensor;
};

/// Writes one file atomically. Data stands without holes, as other readers demand, and aligned to its dtype:
/// tensors of wide elements come first, else the order is the one given. The header carries {"format": "pt"}
/// as metadata.
FileDigest write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

}  // namespace tessera
