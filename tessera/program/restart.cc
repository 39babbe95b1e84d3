// Starting once more with another environment.
#include "tessera/program/restart.h"

#include <unistd.h>

#include <cstdlib>

namespace tessera {

std::vector<EnvironmentSetting> thread_settings() {
  if (std::getenv("OMP_WAIT_POLICY")) return {};
  return {{"GOMP_SPINCOUNT", "10000"}};
}

void restart_with(const std::vector<EnvironmentSetting>& settings, char** argv) {
  bool changed = false;
  for (const EnvironmentSetting& s : settings) {
    changed |= !std::getenv(s.variable) && setenv(s.variable, s.value, 1) == 0;
  }
  if (changed) execv("/proc/self/exe", argv);  // returns only when it fails; then we go on without
}

}  // namespace tessera
