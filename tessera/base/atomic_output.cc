// AtomicFile: write, fsync, rename, fsync of the folder.
#include "tessera/base/atomic_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "tessera/base/error.h"

namespace tessera {

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)),
      temporary_(path_.string() + ".partial"),
      file_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (file_ < 0) fail();
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  hash_.update(bytes);
  bytes_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_, bytes.data(), bytes.size());
    if (written > 0) bytes = bytes.subspan(static_cast<size_t>(written));
    if (written < 0 && errno != EINTR) fail();
  }
}

FileDigest AtomicFile::commit() {
  if (::fsync(file_) != 0) fail();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail();
  ::close(std::exchange(file_, -1));
  sync_folder(path_.parent_path());
  return {bytes_, hash_.hex()};
}

void AtomicFile::fail() {
  throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

void check_can_write(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (std::filesystem::is_directory(path)) throw Error("{}: is a folder", path.string());
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error("{}: cannot write: {}", path.string(), std::strerror(errno));
}

void sync_folder(const std::filesystem::path& dir) {
  const int folder = ::open(dir.empty() ? "." : dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // EINVAL: a file system that cannot; there is nothing more to do then.
  const bool synced = folder >= 0 && (::fsync(folder) == 0 || errno == EINVAL);
  const int error = errno;
  if (folder >= 0) ::close(folder);
  if (!synced) throw Error("{}: cannot write: {}", dir.string(), std::strerror(error));
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::filesystem::path& path) {
  std::error_code unknown;
  const std::filesystem::file_status status = std::filesystem::status(path, unknown);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw Error("{}: not a regular file", path.string());  // a pipe may never end, nor /dev/zero
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error("{}: cannot read: {}", path.string(), std::strerror(errno));
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace tessera
