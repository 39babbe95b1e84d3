// flock, and the owner's process id in the file.
#include "tessera/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "tessera/base/error.h"

namespace tessera {

FileLock::FileLock(std::filesystem::path file) : path_(std::move(file)) {
  while (!lock_current_file()) {
  }
  const std::string owner = std::to_string(::getpid());
  if (::ftruncate(file_, 0) != 0 || ::write(file_, owner.data(), owner.size()) < 0) {
    const int error = errno;
    ::close(file_);
    throw Error("{}: cannot write: {}", path_.string(), std::strerror(error));
  }
}

FileLock::~FileLock() {
  ::close(file_);
}

/// False when the file was removed or moved between opening and locking: then another one counts.
bool FileLock::lock_current_file() {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    std::array<char, 32> owner{};
    const ssize_t digits = ::pread(file_, owner.data(), owner.size(), 0);
    ::close(file_);
    if (error != EWOULDBLOCK) throw Error("{}: cannot lock: {}", path_.string(), std::strerror(error));
    throw Error("{}: process {} is working here; wait for it or choose another output",
                path_.parent_path().string(),
                digits > 0 ? std::string_view(owner.data(), static_cast<size_t>(digits)) : "of unknown id");
  }
  using Stat = struct stat;
  Stat locked{}, current{};
  if (::fstat(file_, &locked) == 0 && ::stat(path_.c_str(), &current) == 0 &&
      locked.st_dev == current.st_dev && locked.st_ino == current.st_ino) {
    return true;
  }
  ::close(file_);
  return false;
}

}  // namespace tessera
