// The C library's functions, as system calls that are counted. No header declares them here, so that their
// attributes need not be repeated.
#include "file_operations.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstring>

extern "C" long syscall(long number, ...) noexcept;

namespace tessera {
namespace {

std::string watched;
int64_t last_operation = 0, operations = 0;
int64_t* counts_by_kind = nullptr;

void count(Operation kind, const char* path) {
  if (watched.empty() || std::strncmp(path, watched.c_str(), watched.size()) != 0) return;
  if (++operations == last_operation) syscall(SYS_exit_group, kCrashed);
  ++counts_by_kind[kind];
}

/// Path of an open file; `name` relative to it where there is one.
std::string path_of(int file, const char* name = nullptr) {
  if (name && (name[0] == '/' || file == AT_FDCWD)) return name;
  const std::string link = "/proc/self/fd/" + std::to_string(file);
  std::array<char, 4096> path{};
  const long length = syscall(SYS_readlinkat, AT_FDCWD, link.c_str(), path.data(), path.size());
  std::string text(path.data(), length > 0 ? static_cast<size_t>(length) : 0);
  return name ? text + "/" + name : text;
}

int open_counted(int folder, const char* path, int flags, unsigned mode) {
  if ((flags & O_ACCMODE) != O_RDONLY) count(kOpen, path_of(folder, path).c_str());
  return static_cast<int>(syscall(SYS_openat, folder, path, flags, mode));
}

int remove_counted(int folder, const char* path, int flags) {
  count(kRemove, path_of(folder, path).c_str());
  return static_cast<int>(syscall(SYS_unlinkat, folder, path, flags));
}

}  // namespace

void crash_at(const std::string& prefix, int64_t last, int64_t* counts) {
  watched = prefix;
  last_operation = last;
  counts_by_kind = counts;
}

}  // namespace tessera

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const unsigned mode = flags & O_CREAT ? va_arg(rest, unsigned) : 0;
  va_end(rest);
  return tessera::open_counted(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const unsigned mode = flags & O_CREAT ? va_arg(rest, unsigned) : 0;
  va_end(rest);
  return tessera::open_counted(folder, path, flags, mode);
}

long write(int file, const void* bytes, size_t size) {
  tessera::count(tessera::kWrite, tessera::path_of(file).c_str());
  return syscall(SYS_write, file, bytes, size);
}

int fsync(int file) {
  tessera::count(tessera::kSync, tessera::path_of(file).c_str());
  return 0;  // only the process dies, not the machine
}

int rename(const char* from, const char* to) noexcept {
  tessera::count(tessera::kRename, from);
  return static_cast<int>(syscall(SYS_rename, from, to));
}

int unlink(const char* path) noexcept {
  return tessera::remove_counted(AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  return tessera::remove_counted(folder, path, flags);
}

int rmdir(const char* path) noexcept {
  return tessera::remove_counted(AT_FDCWD, path, AT_REMOVEDIR);
}

int remove(const char* path) noexcept {
  const int result = unlink(path);
  return result != 0 && errno == EISDIR
             ? static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR))
             : result;
}

int mkdir(const char* path, unsigned mode) noexcept {
  tessera::count(tessera::kMakeFolder, path);
  return static_cast<int>(syscall(SYS_mkdir, path, mode));
}

}  // extern "C"
