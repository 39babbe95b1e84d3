// AtomicFolder: a folder under another name, and a rename.
#include "tessera/base/atomic_folder.h"

#include <fstream>
#include <set>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr const char* kListName = "tessera.files";  ///< a name a line

/// The names of our files; one being written has the suffix ".partial".
std::set<std::string> listed_files(const fs::path& folder) {
  std::set<std::string> names;
  std::ifstream list(folder / kListName);
  for (std::string name; std::getline(list, name);) {
    names.insert(name);
    names.insert(name + ".partial");
  }
  return names;
}

bool is_marker(const fs::path& name) {
  return name == kLockName || name == kListName;
}

void remove_markers(const fs::path& folder) {
  fs::remove(folder / kListName);
  fs::remove(folder / kLockName);
}

/// Removes what a process left that was killed. Throws Error, and removes nothing, unless all of it is ours.
void remove_leftover(const fs::path& folder) {
  if (!fs::is_directory(fs::symlink_status(folder)))
    throw Error("{}: not a folder; choose another output", folder.string());
  if (fs::is_empty(folder)) {
    fs::remove(folder);
    return;
  }
  if (!fs::exists(folder / kLockName))
    throw Error("{}: not made by tessera; move it elsewhere or choose another output", folder.string());
  const FileLock lock(folder / kLockName);
  const std::set<std::string> listed = listed_files(folder);
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if ((!is_marker(name) && !listed.contains(name)) || !fs::is_regular_file(entry.symlink_status()))
      throw Error("{}: holds {}, which no interrupted conversion wrote; move it elsewhere", folder.string(),
                  name);
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!is_marker(entry.path().filename())) fs::remove(entry);
  }
  remove_markers(folder);
  fs::remove(folder);
}

}  // namespace

void require_absent(const fs::path& path) {
  if (fs::exists(fs::symlink_status(path)))
    throw Error("{}: is there already; choose another output, or remove it", path.string());
}

AtomicFolder::AtomicFolder(fs::path path) : path_(std::move(path)) {
  partial_ = path_.string() + ".partial";
  require_absent(path_);
  std::error_code error;
  if (fs::exists(fs::symlink_status(partial_))) remove_leftover(partial_);
  fs::create_directories(partial_, error);
  if (error) throw Error("{}: cannot create: {}", partial_.string(), error.message());
  lock_.emplace(partial_ / kLockName);
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(partial_, ignored);
}

fs::path AtomicFolder::file(const std::string& name) {
  std::ofstream list(partial_ / kListName, std::ios::app);
  list << name << '\n' << std::flush;
  if (!list) throw Error("{}: cannot write; is the disk full?", (partial_ / kListName).string());
  return partial_ / name;
}

void AtomicFolder::commit() {
  require_absent(path_);
  sync_folder(partial_);
  fs::rename(partial_, path_);
  committed_ = true;
  remove_markers(path_);
  sync_folder(path_);
  sync_folder(path_.parent_path());
}

}  // namespace tessera
