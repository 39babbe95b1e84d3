// The handler of SIGINT.
#include "tessera/cli/interrupt.h"

#include <csignal>

namespace tessera {
namespace {

volatile std::sig_atomic_t g_pending = 0;
struct sigaction g_before;

void note(int) {
  g_pending = 1;
}

}  // namespace

Interrupt::Interrupt() {
  struct sigaction action {};
  action.sa_handler = note;  // no SA_RESTART: a read from the terminal ends
  sigaction(SIGINT, &action, &g_before);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &g_before, nullptr);
}

bool Interrupt::pending() const {
  return g_pending != 0;
}

void Interrupt::clear() {
  g_pending = 0;
}

}  // namespace tessera
