// The handler of SIGINT.
#include "tessera/cli/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "tessera/base/error.h"

namespace tessera {
namespace {

volatile std::sig_atomic_t g_pending = 0;
struct sigaction g_before;

/// A pipe that the handler writes into: whichever thread it runs in, whoever polls awakes.
int g_wake[2];

void note(int) {
  const int error = errno;
  g_pending = 1;
  [[maybe_unused]] const ssize_t written = write(g_wake[1], "", 1);
  errno = error;
}

void empty_pipe() {
  char bytes[64];
  while (read(g_wake[0], bytes, sizeof bytes) > 0) {
  }
}

}  // namespace

Interrupt::Interrupt() {
  if (pipe2(g_wake, O_NONBLOCK | O_CLOEXEC) != 0) throw Error("no pipe can be made: too many open files");
  struct sigaction action {};
  action.sa_handler = note;  // no SA_RESTART: a read from the terminal ends
  sigaction(SIGINT, &action, &g_before);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &g_before, nullptr);
  for (int end : g_wake) close(end);
}

bool Interrupt::pending() const {
  return g_pending != 0;
}

void Interrupt::clear() {
  g_pending = 0;
  empty_pipe();
}

bool Interrupt::wait_for(int file) const {
  pollfd ends[] = {{file, POLLIN, 0}, {g_wake[0], POLLIN, 0}};
  while (!pending() && ends[0].revents == 0) {
    if (poll(ends, 2, -1) < 0 && errno != EINTR) break;
    if (!pending()) empty_pipe();  // of a signal that clear() overtook
  }
  return !pending();
}

}  // namespace tessera
