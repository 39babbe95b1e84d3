// Files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "tessera/base/hash.h"

namespace tessera {

/// Writes `path` as PATH.partial; commit() makes it durable and renames it. Destroyed without commit, it
/// leaves nothing. Throws Error (path and reason) when the folder cannot be written or the disk is full.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Returns what was written.
  FileDigest commit();

 private:
  [[noreturn]] void fail();

  std::filesystem::path path_, temporary_;
  int file_ = -1;
  uint64_t bytes_ = 0;
  Sha256 hash_;
};

/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view text);

/// Throws Error when AtomicFile could not write `path` as things are now: for results that take long.
void check_can_write(const std::filesystem::path& path);

/// Makes the entries of a folder durable: files made, renamed or removed there. Throws Error when that fails.
void sync_folder(const std::filesystem::path& dir);

/// The whole content. Throws Error when it cannot be read or is no regular file.
std::string read_file(const std::filesystem::path& path);

}  // namespace tessera
