// Folders that appear whole or not at all.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "tessera/base/file_lock.h"

namespace tessera {

/// Makes PATH.partial, to be filled by this process alone; commit() renames it to PATH. Destroyed without
/// commit, it leaves nothing. A process that is killed leaves PATH.partial, marked by its lock and by a list
/// of its files, and the next AtomicFolder of this path removes it.
class AtomicFolder {
 public:
  /// Throws Error when PATH is there already, when PATH.partial is another process's, was not made by
  /// Tessera or holds what is not on its list, or when the folder cannot be made.
  /// `path` ends in a name, not in a slash.
  explicit AtomicFolder(std::filesystem::path path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& partial() const { return partial_; }
  /// Where a file of this name goes. It is on the list from now on: to be called before the file is made.
  std::filesystem::path file(const std::string& name);
  /// Throws Error when PATH has come into being meanwhile.
  void commit();

 private:
  std::filesystem::path path_, partial_;
  std::optional<FileLock> lock_;
  bool committed_ = false;
};

/// Throws Error when something is at `path`.
void require_absent(const std::filesystem::path& path);

}  // namespace tessera
