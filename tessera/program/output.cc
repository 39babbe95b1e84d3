// Guarding stdout.
#include "tessera/program/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>

namespace tessera {

void prepare_output() {
  std::signal(SIGPIPE, SIG_IGN);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(standard, F_GETFD) >= 0) continue;
    // The lowest free number is taken, which is this one. Writing to it fails, as it does when it is closed.
    [[maybe_unused]] const int taken = open("/dev/null", O_RDONLY);
  }
}

void flush_output() {
  const bool lost = std::ferror(stdout) != 0;
  if (!lost) errno = 0;  // else it may still say why
  if (std::fflush(stdout) == 0 && !lost) return;
  throw std::system_error(errno != 0 ? errno : EIO, std::generic_category(), "stdout: cannot write");
}

}  // namespace tessera
