// Locking, marking and publishing an output folder.
#include "tessera/quant/run/output_folder.h"

#include <sys/stat.h>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/quant/run/owned_files.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

/// True when `inner` is `outer` or lies in it, whatever names and links lead there.
bool holds(const fs::path& outer, const fs::path& inner) {
  if (!fs::exists(outer)) return false;
  for (fs::path path = fs::weakly_canonical(inner);; path = path.parent_path()) {
    if (fs::exists(path) && fs::equivalent(path, outer)) return true;
    if (!path.has_relative_path()) return false;
  }
}

/// True for the folder of the model, and for its files, which may be links. A GGUF model is its file.
bool holds_model(const fs::path& folder, const fs::path& model) {
  if (holds(folder, model)) return true;
  if (!fs::is_directory(model)) return false;
  for (const auto& entry : fs::directory_iterator(model)) {
    if (entry.is_regular_file() && holds(folder, entry.path())) return true;
  }
  return false;
}

bool is_mount_point(const fs::path& folder) {
  using Stat = struct stat;
  Stat self{}, parent{};
  return ::stat(folder.c_str(), &self) == 0 && ::stat((folder / "..").c_str(), &parent) == 0 &&
         self.st_dev != parent.st_dev;
}

void check_own(const fs::path& folder) {
  const std::string foreign = foreign_entry(folder);
  if (foreign.empty()) return;
  throw Error("{}: holds {}, which tessera did not write; move it elsewhere", folder.string(), foreign);
}

}  // namespace

OutputFolder::OutputFolder(fs::path out, const fs::path& model) : out_(std::move(out)) {
  if (out_.empty()) throw Error("the output folder has no name; give one with -o");
  if (!out_.has_filename()) out_ = out_.parent_path();  // "OUT/"
  if (fs::is_symlink(out_)) out_ = fs::weakly_canonical(out_);
  partial_ = out_.string() + ".partial";
  for (const fs::path& folder : {out_, partial_}) {
    if (holds_model(folder, model)) {
      throw Error("{}: holds the source model; choose another output", folder.string());
    }
    if (!fs::exists(fs::symlink_status(folder))) continue;
    if (fs::is_symlink(folder) || !fs::is_directory(folder)) {
      throw Error("{}: not a folder; choose another output", folder.string());
    }
    if (is_mount_point(folder)) {
      throw Error("{}: a mount point cannot be replaced; choose a folder in it", folder.string());
    }
  }
  if (!fs::exists(partial_) || fs::is_empty(partial_)) return;
  if (!fs::exists(partial_ / kLockName)) {
    throw Error("{}: not made by tessera; move it elsewhere or choose another output", partial_.string());
  }
  lock_.emplace(partial_ / kLockName);
  check_own(partial_);
}

bool OutputFolder::has_run() const {
  return fs::exists(partial_ / kJournalName);
}

void OutputFolder::check_replaceable() const {
  if (!fs::exists(out_) || fs::is_empty(out_)) return;
  if (listed_files(out_).empty()) {
    throw Error(
        "{}: has no report.json that lists its files, so --overwrite will not replace it; choose another "
        "output, or remove it if tessera quantize made it",
        out_.string());
  }
  check_own(out_);
}

void OutputFolder::open() {
  if (lock_) return;
  std::error_code error;
  fs::create_directories(partial_, error);
  if (error) throw Error("{}: cannot create: {}", partial_.string(), error.message());
  lock_.emplace(partial_ / kLockName);
  if (has_run()) throw Error("{}: another run began here just now; start again", partial_.string());
  sync_folder(partial_.parent_path());
}

void OutputFolder::restore_replaced() {
  if (fs::exists(out_) || !fs::exists(partial_ / kReplacedName)) return;
  fs::rename(partial_ / kReplacedName, out_);
  sync_folder(out_.parent_path());
}

void OutputFolder::keep_only(const std::set<std::string>& names) {
  remove_owned(partial_, [&](const std::string& name) { return name != kLockName && !names.contains(name); });
}

void OutputFolder::discard() {
  remove_owned(partial_, [](const std::string&) { return true; });
  std::error_code holds_others;
  fs::remove(partial_, holds_others);
}

void OutputFolder::publish(bool replace) {
  const fs::path parent = out_.parent_path(), replaced = partial_ / kReplacedName;
  if (fs::exists(out_) && !fs::is_empty(out_)) {
    if (!replace) throw Error("{}: exists by now; remove it", out_.string());
    check_replaceable();
    remove_owned(partial_, [](const std::string& name) { return name == kReplacedName; });
    fs::rename(out_, replaced);
    sync_folder(partial_);
  }
  fs::rename(partial_, out_);
  sync_folder(parent);
  finish_publication();
}

void OutputFolder::finish_publication() {
  if (!fs::exists(out_ / kLockName)) return;
  if (!lock_) lock_.emplace(out_ / kLockName);
  remove_owned(out_, is_working_name);
  sync_folder(out_);
}

}  // namespace tessera
