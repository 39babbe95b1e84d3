// Folders that appear whole or not at all.
#pragma once

#include <filesystem>

namespace tessera {

/// Makes PATH.partial, to be filled; commit() renames it to PATH. Destroyed without commit, it leaves
/// nothing.
class AtomicFolder {
 public:
  /// Throws Error when PATH is there already, or PATH.partial, which an interrupted process leaves, or when
  /// the folder cannot be made.
  explicit AtomicFolder(std::filesystem::path path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where the files go.
  const std::filesystem::path& partial() const { return partial_; }
  /// Throws Error when PATH has come into being meanwhile.
  void commit();

 private:
  std::filesystem::path path_, partial_;
  bool committed_ = false;
};

/// Throws Error when something is at `path`.
void require_absent(const std::filesystem::path& path);

}  // namespace tessera
