// Read-only memory mapping of a file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace tessera {

/// Maps a whole file. Pages are read when touched and can be dropped by the system, so a checkpoint larger
/// than memory can be walked. Throws Error when the file cannot be opened.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Tells the system that these bytes of a MappedFile are not needed for now: they stop counting as this
/// process's memory and are read again when touched.
void release_pages(std::span<const std::byte> mapped);

}  // namespace tessera
