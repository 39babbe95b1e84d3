// AtomicFolder: a folder under another name, and a rename.
#include "tessera/base/atomic_folder.h"

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {

namespace fs = std::filesystem;

void require_absent(const fs::path& path) {
  if (fs::exists(fs::symlink_status(path)))
    throw Error("{}: is there already; choose another output, or remove it", path.string());
}

AtomicFolder::AtomicFolder(fs::path path) : path_(std::move(path)) {
  if (!path_.has_filename()) path_ = path_.parent_path();  // "OUT/"
  partial_ = path_.string() + ".partial";
  require_absent(path_);
  std::error_code error;
  if (partial_.has_parent_path()) fs::create_directories(partial_.parent_path(), error);
  if (error || !fs::create_directory(partial_, error)) {
    if (error) throw Error("{}: cannot create: {}", partial_.string(), error.message());
    throw Error("{}: another process is writing it, or one was interrupted; remove it", partial_.string());
  }
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(partial_, ignored);
}

void AtomicFolder::commit() {
  require_absent(path_);
  sync_folder(partial_);
  fs::rename(partial_, path_);
  committed_ = true;
  sync_folder(path_.parent_path());
}

}  // namespace tessera
