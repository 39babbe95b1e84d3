// The handler writes a line that stands ready, and lets the signal do its work.
#include "tessera/quant_cli/ending_line.h"

#include <unistd.h>

#include <csignal>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};

std::string g_line;

void end(int signal) {
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, g_line.data(), g_line.size());
  std::signal(signal, SIG_DFL);
  raise(signal);
}

}  // namespace

EndingLine::EndingLine(const std::string& line) {
  g_line = (isatty(STDERR_FILENO) != 0 ? "\n" : "") + ("tessera: " + one_line(line)) + "\n";
  for (const int signal : kSignals) {
    if (std::signal(signal, end) == SIG_IGN) std::signal(signal, SIG_IGN);  // as nohup wants it
  }
}

EndingLine::~EndingLine() {
  for (const int signal : kSignals) {
    if (std::signal(signal, SIG_DFL) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
}

}  // namespace tessera
