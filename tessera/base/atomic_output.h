// Files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string_view>

namespace tessera {

/// Writes `path` under a temporary name beside it; commit() makes it durable and renames it. Destroyed
/// without commit, it leaves nothing. Throws Error (path and reason) when the folder cannot be written or the
/// disk is full.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  [[noreturn]] void fail(std::string_view what);

  std::filesystem::path path_, temporary_;
  std::FILE* file_ = nullptr;
};

/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view text);

/// The whole content. Throws Error when it cannot be read.
std::string read_file(const std::filesystem::path& path);

}  // namespace tessera
