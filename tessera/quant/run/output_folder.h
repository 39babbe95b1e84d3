// The folder that a run makes: filled as OUT.partial by one process at a time, visible as OUT when complete.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "tessera/base/file_lock.h"

namespace tessera {

/// OUT.partial is marked as ours by its lock file. It becomes OUT by a rename. An older checkpoint in OUT is
/// moved into OUT.partial just before and removed just after, so that one of the two is whole at any moment.
class OutputFolder {
 public:
  /// Locks OUT.partial where it is there; changes nothing. Throws Error when OUT or OUT.partial is or holds
  /// the source model (also through links), is no folder or cannot be renamed, and when OUT.partial is
  /// another process's, was not made by Tessera or holds files of others.
  OutputFolder(std::filesystem::path out, const std::filesystem::path& model);

  const std::filesystem::path& path() const { return out_; }
  const std::filesystem::path& partial() const { return partial_; }
  /// Whether OUT.partial holds an interrupted run.
  bool has_run() const;
  /// Throws Error unless OUT is absent, empty, or holds what Tessera wrote and nothing else.
  void check_replaceable() const;

  /// Makes OUT.partial where it is not there, and locks it. Throws Error when that fails.
  void open();
  /// Gives OUT back the checkpoint that an unfinished publication took away.
  void restore_replaced();
  /// Removes our other files from OUT.partial: what was being written when a run was interrupted.
  void keep_only(const std::set<std::string>& names);
  /// Removes our files and, unless it holds others, OUT.partial.
  void discard();

  /// OUT.partial becomes OUT, replacing a checkpoint there if told so. Throws Error when OUT has come into
  /// being or been changed meanwhile.
  void publish(bool replace);
  /// Ends a publication that was interrupted behind the rename. Does nothing where there is none.
  void finish_publication();

 private:
  std::filesystem::path out_, partial_;
  std::optional<FileLock> lock_;
};

}  // namespace tessera
