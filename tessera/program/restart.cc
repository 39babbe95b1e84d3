// Starting once more with another environment.
#include "tessera/program/restart.h"

#include <unistd.h>

#include <cstdlib>
#include <sstream>

namespace tessera {
namespace {

/// Tells the second start which variables the first has set.
constexpr const char* kOurs = "TESSERA_RESTARTED_WITH";

}  // namespace

std::vector<EnvironmentSetting> thread_settings(int spins) {
  if (std::getenv("OMP_WAIT_POLICY")) return {};
  return {{"GOMP_SPINCOUNT", std::to_string(spins)}};
}

void restart_with(const std::vector<EnvironmentSetting>& settings, char** argv) {
  if (const char* ours = std::getenv(kOurs)) {
    std::istringstream names(ours);
    for (std::string name; names >> name;) unsetenv(name.c_str());
    unsetenv(kOurs);
    return;
  }
  std::string ours;
  for (const EnvironmentSetting& s : settings) {
    if (!std::getenv(s.variable) && setenv(s.variable, s.value.c_str(), 1) == 0)
      ours += s.variable + std::string(" ");
  }
  if (ours.empty() || setenv(kOurs, ours.c_str(), 1) != 0) return;
  execv("/proc/self/exe", argv);  // returns only when it fails; then we go on without
}

}  // namespace tessera
