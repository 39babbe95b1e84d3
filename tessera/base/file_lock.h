// A lock that says who works in a folder.
#pragma once

#include <filesystem>

namespace tessera {

/// Of the lock file in OUT.partial, which marks the folder as ours.
inline constexpr const char* kLockName = "tessera.lock";

/// An exclusive lock on a file, which names the owner's process id. The kernel releases it when the process
/// ends, however it ends; the file stays.
class FileLock {
 public:
  /// Makes the file where there is none. Throws Error with the owner's process id when another has the lock,
  /// or the reason why the file cannot be locked.
  explicit FileLock(std::filesystem::path file);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  bool lock_current_file();

  std::filesystem::path path_;
  int file_ = -1;
};

}  // namespace tessera
