// Actions in processes of their own, which end at one of their file operations.
#pragma once

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>

#include "file_operations.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"

namespace tessera {

class DyingProcess {
 public:
  /// Operations count on paths that begin with `prefix`.
  explicit DyingProcess(std::string prefix) : prefix_(std::move(prefix)) {
    void* shared = mmap(nullptr, sizeof(int64_t) * kOperationKinds, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) throw std::runtime_error("no shared memory");
    counts_ = static_cast<int64_t*>(shared);
  }
  ~DyingProcess() { munmap(counts_, sizeof(int64_t) * kOperationKinds); }
  DyingProcess(const DyingProcess&) = delete;
  DyingProcess& operator=(const DyingProcess&) = delete;

  /// The exit status of `action`: kCrashed when it ended in front of file operation `last`, else 0, or 2 and
  /// its message on standard error for an Error. This process may have started no threads, since those do not
  /// survive a fork.
  int run(const std::function<void()>& action, int64_t last = 0) {
    std::fill_n(counts_, kOperationKinds, 0);
    const pid_t child = fork();
    if (child == 0) {
      set_thread_count(1);
      crash_at(prefix_, last, counts_);
      try {
        action();
        _exit(0);
      } catch (const Error& e) {
        std::fprintf(stderr, "%s\n", e.what());
        _exit(2);
      }
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  /// Operations of the last run by kind, [kOperationKinds], and all together.
  std::span<const int64_t> counts() const { return {counts_, kOperationKinds}; }
  int64_t operations() const { return std::accumulate(counts_, counts_ + kOperationKinds, int64_t{0}); }

 private:
  std::string prefix_;
  int64_t* counts_;
};

}  // namespace tessera
