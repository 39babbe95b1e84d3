// Settings that libraries read from the environment while a program is loaded, before main can make them.
#pragma once

#include <string>
#include <vector>

namespace tessera {

struct EnvironmentSetting {
  const char* variable;
  std::string value;
};

/// How libgomp's idle threads wait: they spin `spins` rounds before they sleep. Its own value, 300,000, would
/// starve a busy machine. Empty when the user has said how they shall wait.
std::vector<EnvironmentSetting> thread_settings(int spins);

/// Makes the settings that the user has left open, and where there were any starts this program once more
/// with them, in this process. Returns when there is nothing (left) to do. Programs that this one starts get
/// the user's environment.
void restart_with(const std::vector<EnvironmentSetting>& settings, char** argv);

}  // namespace tessera
