// Ends a process at one of its file operations, to see what a crash there leaves behind.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

constexpr int kCrashed = 86;  ///< the exit status

/// From now on the process ends in front of operation number `last`, counted from 1, among those that change
/// something whose path begins with `prefix`; never for 0. Operations are opening to write, writing, syncing,
/// renaming, removing and making folders. `counts` [kOperationKinds] receives their numbers by kind.
enum Operation { kOpen, kWrite, kSync, kRename, kRemove, kMakeFolder, kOperationKinds };
void crash_at(const std::string& prefix, int64_t last, int64_t* counts);

}  // namespace tessera
